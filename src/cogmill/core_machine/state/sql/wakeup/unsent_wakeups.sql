-- A second's grace: whoever bumped it is usually just about to send it.
SELECT job_id FROM cogmill.wakeup
WHERE sent < generation AND due_at <= cogmill.now() - interval '1 second'
ORDER BY job_id
