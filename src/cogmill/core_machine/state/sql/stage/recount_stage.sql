-- After `lock_stage`, in a snapshot of its own: a settle that is under way still counts as open, and
-- counts itself down when the lock is free.
UPDATE cogmill.stage
SET remaining = open.tasks
FROM (SELECT count(*) AS tasks FROM cogmill.task
      WHERE job_id = %(job_id)s AND position = %(position)s AND kind <> 'plan'
        AND status IN ('ready', 'running')) AS open
WHERE job_id = %(job_id)s AND position = %(position)s AND status = 'running'
  AND remaining IS DISTINCT FROM open.tasks
