-- One UPDATE, never an upsert. The orders are the attempts that this worker no longer holds
-- (cancelled or lost) or that have passed their deadline (hung).
UPDATE cogmill.worker
SET beat_at = cogmill.now(),
    progress = %(progress)s,
    suspected_at = NULL,
    suspected_postmaster = NULL
WHERE incarnation = %(incarnation)s AND status = 'live'
RETURNING (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'task_id', held.task_id,
               'attempt', held.attempt,
               'order', CASE
                   WHEN task.status = 'cancelled' THEN 'cancelled'
                   WHEN task.id IS NULL OR task.status <> 'running'
                        OR task.attempt <> held.attempt
                        OR task.worker <> %(incarnation)s THEN 'lost'
                   ELSE 'hung' END)), '[]')
    FROM jsonb_to_recordset(%(progress)s) AS held (task_id bigint, attempt integer)
    LEFT JOIN cogmill.task ON task.id = held.task_id
    WHERE task.id IS NULL
       OR task.status <> 'running'
       OR task.attempt <> held.attempt
       OR task.worker <> %(incarnation)s
       OR task.deadline_at < cogmill.now()
) AS orders, (
    SELECT extract(epoch FROM cogmill.now() - max(started_at))::double precision
    FROM cogmill.reconciliation_run
) AS unswept
