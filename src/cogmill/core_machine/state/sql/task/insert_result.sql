INSERT INTO cogmill.task_result (task_id, result, payload, peak_memory, seconds)
SELECT id, %(result)s, %(payload)s, %(peak_memory)s,
       extract(epoch FROM cogmill.now() - started_at)
FROM cogmill.task
WHERE id = %(task_id)s
