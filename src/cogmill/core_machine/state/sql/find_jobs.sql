SELECT * FROM cogmill.job
WHERE id LIKE %(prefix)s || '%%'
ORDER BY created_at DESC, id
LIMIT %(limit)s
