INSERT INTO cogmill.event (job_id, kind, stage, task, data)
VALUES (%(job_id)s, %(kind)s, %(stage)s, %(task)s, %(data)s)
