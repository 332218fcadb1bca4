-- Whoever waits for a table that somebody reads for an hour makes the whole fleet wait as long.
SELECT set_config('lock_timeout', %(milliseconds)s::text, true)
