SELECT stage.position, stage.name, stage.status, stage.planned, stage.remaining,
       count(*) FILTER (WHERE task.status = 'ready') AS ready,
       count(*) FILTER (WHERE task.status = 'running') AS running,
       count(*) FILTER (WHERE task.status = 'succeeded' AND task.kind = 'work') AS succeeded,
       count(*) FILTER (WHERE task.status = 'failed') AS failed,
       count(*) FILTER (WHERE task.status = 'ready' AND task.failures > 0) AS retrying,
       count(*) FILTER (WHERE task.adopted_from IS NOT NULL) AS adopted
FROM cogmill.stage
LEFT JOIN cogmill.task ON task.job_id = stage.job_id AND task.position = stage.position
    AND task.kind <> 'plan'
WHERE stage.job_id = %(job_id)s
GROUP BY stage.job_id, stage.position
ORDER BY stage.position
