SELECT coalesce(sum((held.value ->> 'done')::bigint), 0) AS done
FROM cogmill.worker, jsonb_array_elements(worker.progress) AS held
WHERE worker.status = 'live' AND held.value ->> 'job_id' = %(job_id)s
