INSERT INTO cogmill.reconciliation_run (dry_run) VALUES (%(dry_run)s) RETURNING id
