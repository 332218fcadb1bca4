-- Set, not sent in the start-up packet, which some poolers refuse. A frozen process loses its locks.
SELECT set_config('search_path', 'cogmill', false),
       set_config('timezone', 'UTC', false),
       set_config('statement_timeout', '60s', false),
       set_config('lock_timeout', '20s', false),
       set_config('idle_in_transaction_session_timeout', %(idle_ms)s::text, false)
