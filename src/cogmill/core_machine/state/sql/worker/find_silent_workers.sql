SELECT incarnation, host, pid, beat_at
FROM cogmill.worker
WHERE status = 'live'
  AND suspected_at IS NULL
  AND beat_at < cogmill.now() - make_interval(secs => suspect_seconds)
ORDER BY incarnation
