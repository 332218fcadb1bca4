INSERT INTO cogmill.migration (version, name, sha256)
VALUES (%(version)s, %(name)s, %(sha256)s)
