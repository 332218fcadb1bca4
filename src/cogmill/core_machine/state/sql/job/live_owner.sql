SELECT id FROM cogmill.job
WHERE owns = %(owns)s AND status IN ('accepted', 'running')
