SELECT extract(epoch FROM cogmill.now() - max(started_at)) AS seconds
FROM cogmill.reconciliation_run
