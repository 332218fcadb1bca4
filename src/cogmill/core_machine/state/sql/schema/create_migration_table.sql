CREATE TABLE IF NOT EXISTS cogmill.migration (
    version     integer PRIMARY KEY,
    name        text NOT NULL,
    sha256      text NOT NULL,
    -- Of the real clock: it is older than cogmill.now() and nothing is decided by it.
    applied_at  timestamptz NOT NULL DEFAULT statement_timestamp()
)
