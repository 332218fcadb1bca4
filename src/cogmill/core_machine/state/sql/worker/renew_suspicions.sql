-- After a sleep or an outage of the one that looks: whoever was silent may have slept as well.
UPDATE cogmill.worker
SET suspected_at = cogmill.now(), suspected_postmaster = pg_postmaster_start_time()
WHERE status = 'live' AND suspected_at IS NOT NULL
