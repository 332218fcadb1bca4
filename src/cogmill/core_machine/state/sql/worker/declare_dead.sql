UPDATE cogmill.worker
SET status = 'dead', ended_at = cogmill.now(), progress = '[]'
WHERE incarnation = %(incarnation)s
  AND status = 'live'
  AND suspected_at <= cogmill.now() - make_interval(secs => beat_seconds)
  AND suspected_postmaster = pg_postmaster_start_time()
