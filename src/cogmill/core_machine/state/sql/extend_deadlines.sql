UPDATE cogmill.task
SET deadline_at = deadline_at + make_interval(secs => %(seconds)s)
WHERE worker = %(incarnation)s AND status = 'running'
