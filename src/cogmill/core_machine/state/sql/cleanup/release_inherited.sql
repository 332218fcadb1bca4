-- The debts that a job inherited are due, and its own where nobody lives that inherited it.
UPDATE cogmill.cleanup
SET due_at = cogmill.now() + make_interval(secs => %(delay)s)
WHERE done_at IS NULL AND due_at = 'infinity'
  AND (heir = %(job_id)s
       OR (job_id = %(job_id)s
           AND NOT EXISTS (SELECT FROM cogmill.job AS heir
                           WHERE heir.id = cleanup.heir
                             AND heir.status IN ('accepted', 'running'))))
