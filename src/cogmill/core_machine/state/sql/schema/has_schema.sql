SELECT to_regnamespace('cogmill') IS NOT NULL AS found
