-- The debts of earlier generations move along to the one that may adopt what they made. What
-- somebody is just cleaning, or a person dismissed, is left to its end.
UPDATE cogmill.cleanup
SET heir = %(job_id)s, due_at = 'infinity'
FROM cogmill.job
WHERE cleanup.job_id = job.id
  AND job.lineage = %(lineage)s
  AND job.status IN ('successful', 'failed')
  AND cleanup.done_at IS NULL
  AND cleanup.worker IS NULL
