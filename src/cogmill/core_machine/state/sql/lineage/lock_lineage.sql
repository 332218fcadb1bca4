-- Serialises submits of one lineage until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('cogmill.lineage:' || %(lineage)s, 0))
