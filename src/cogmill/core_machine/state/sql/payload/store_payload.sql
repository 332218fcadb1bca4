INSERT INTO cogmill.payload (digest, body)
VALUES (%(digest)s, %(body)s)
ON CONFLICT (digest) DO NOTHING
