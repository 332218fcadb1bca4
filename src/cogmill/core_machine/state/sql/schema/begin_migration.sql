-- A migration of a large table takes its time, and the second migrator waits for the first.
SELECT set_config('statement_timeout', '0', true),
       set_config('lock_timeout', '0', true)
