SELECT job.*
FROM cogmill.job
WHERE lineage = %(lineage)s
ORDER BY generation DESC
LIMIT 1
