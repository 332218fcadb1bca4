UPDATE cogmill.worker
SET status = 'gone', ended_at = cogmill.now(), progress = '[]'
WHERE incarnation = %(incarnation)s AND status = 'live'
