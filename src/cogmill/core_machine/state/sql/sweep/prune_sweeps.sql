DELETE FROM cogmill.reconciliation_run
WHERE id IN (SELECT id FROM cogmill.reconciliation_run
             WHERE started_at < cogmill.now() - make_interval(secs => %(age)s)
             ORDER BY started_at
             LIMIT %(limit)s)
