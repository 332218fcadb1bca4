-- The second look, at least one beat later and under the same postmaster.
SELECT incarnation, host, pid, beat_at
FROM cogmill.worker
WHERE status = 'live'
  AND suspected_at <= cogmill.now() - make_interval(secs => beat_seconds)
  AND suspected_postmaster = pg_postmaster_start_time()
ORDER BY incarnation
