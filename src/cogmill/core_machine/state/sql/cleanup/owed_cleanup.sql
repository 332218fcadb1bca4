-- Of the job, or of an earlier one with its destination; none while a live job owns that.
SELECT cleanup.job_id
FROM cogmill.job AS asked
JOIN cogmill.job AS owing ON owing.id = asked.id OR owing.owns = asked.owns
JOIN cogmill.cleanup ON cleanup.job_id = owing.id
WHERE asked.id = %(job_id)s
  AND cleanup.done_at IS NULL
  AND cleanup.due_at <= cogmill.now()
  AND NOT EXISTS (
    SELECT FROM cogmill.job AS owner
    WHERE owner.owns = asked.owns AND owner.status IN ('accepted', 'running')
)
LIMIT 1
