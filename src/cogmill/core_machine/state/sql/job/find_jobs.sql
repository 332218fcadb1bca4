SELECT * FROM cogmill.job
WHERE starts_with(id, %(prefix)s)
ORDER BY created_at DESC, id
LIMIT %(limit)s
