SELECT job.*
FROM cogmill.job
WHERE owns = %(owns)s AND status = 'successful'
ORDER BY finished_at DESC
LIMIT 1
