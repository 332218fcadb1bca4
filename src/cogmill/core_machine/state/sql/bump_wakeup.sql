INSERT INTO cogmill.wakeup (job_id) VALUES (%(job_id)s)
ON CONFLICT (job_id) DO UPDATE
SET generation = wakeup.generation + 1, due_at = cogmill.now()
