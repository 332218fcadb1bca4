-- A sweep that found nothing is recorded too, once a minute among all: a silence is an alarm.
INSERT INTO cogmill.reconciliation_run (dry_run, finished_at)
SELECT false, cogmill.now()
WHERE NOT EXISTS (SELECT FROM cogmill.reconciliation_run
                  WHERE started_at > cogmill.now() - interval '1 minute')
