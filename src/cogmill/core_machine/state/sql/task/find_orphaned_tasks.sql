-- Running under a worker that is dead, gone or unknown.
SELECT task.id, task.job_id, task.worker AS incarnation
FROM cogmill.task
LEFT JOIN cogmill.worker ON worker.incarnation = task.worker
WHERE task.status = 'running' AND (worker.incarnation IS NULL OR worker.status <> 'live')
ORDER BY task.id
