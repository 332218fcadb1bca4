INSERT INTO cogmill.stage (job_id, position, name, plan_memory, plan_seconds, max_failures)
VALUES (%(job_id)s, %(position)s, %(name)s, %(plan_memory)s, %(plan_seconds)s, %(max_failures)s)
