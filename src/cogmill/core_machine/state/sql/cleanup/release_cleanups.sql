UPDATE cogmill.cleanup SET worker = NULL
WHERE worker = %(incarnation)s AND done_at IS NULL
