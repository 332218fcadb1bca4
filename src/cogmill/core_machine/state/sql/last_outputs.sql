SELECT outputs FROM cogmill.job
WHERE lineage = %(lineage)s AND status = 'successful'
ORDER BY generation DESC
LIMIT 1
