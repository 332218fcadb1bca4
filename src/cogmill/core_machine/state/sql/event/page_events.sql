-- Below the snapshot's xmin every transaction has ended, so that no event can appear behind a reader.
SELECT id, xid::text::bigint AS xid, at, job_id, kind, stage, task, data
FROM cogmill.event
WHERE (xid, id) > (%(xid)s::text::xid8, %(id)s)
  AND xid < pg_snapshot_xmin(pg_current_snapshot())
  AND (%(job_id)s::text IS NULL OR job_id = %(job_id)s)
ORDER BY xid, id
LIMIT %(limit)s
