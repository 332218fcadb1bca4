SELECT version, name, sha256 FROM cogmill.migration ORDER BY version
