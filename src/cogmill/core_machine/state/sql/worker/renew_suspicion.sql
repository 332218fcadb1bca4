UPDATE cogmill.worker
SET suspected_at = cogmill.now(), suspected_postmaster = pg_postmaster_start_time()
WHERE incarnation = %(incarnation)s
  AND status = 'live'
  AND suspected_at IS NOT NULL
  AND suspected_postmaster IS DISTINCT FROM pg_postmaster_start_time()
