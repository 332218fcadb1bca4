-- The first look. A beat takes the suspicion back.
UPDATE cogmill.worker
SET suspected_at = cogmill.now(), suspected_postmaster = pg_postmaster_start_time()
WHERE incarnation = %(incarnation)s
  AND status = 'live'
  AND suspected_at IS NULL
  AND beat_at < cogmill.now() - make_interval(secs => suspect_seconds)
