-- Nobody retries what failed earlier in the destination of a job that has succeeded.
UPDATE cogmill.cleanup
SET due_at = cogmill.now()
FROM cogmill.job AS ended
JOIN cogmill.job AS earlier ON earlier.owns = ended.owns AND earlier.id <> ended.id
WHERE ended.id = %(job_id)s
  AND cleanup.job_id = earlier.id
  AND cleanup.done_at IS NULL
  AND cleanup.due_at > cogmill.now()
