SELECT to_regclass('cogmill.migration') IS NOT NULL AS found
