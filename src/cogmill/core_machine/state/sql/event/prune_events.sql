DELETE FROM cogmill.event
WHERE id IN (SELECT id FROM cogmill.event
             WHERE at < cogmill.now() - make_interval(secs => %(age)s)
             ORDER BY at
             LIMIT %(limit)s)
