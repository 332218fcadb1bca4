SELECT id FROM cogmill.job
WHERE id = ANY (%(ids)s) AND status IN ('accepted', 'running')
ORDER BY array_position(%(ids)s::text[], id)
