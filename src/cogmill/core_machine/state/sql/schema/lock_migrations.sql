-- Before the schema exists there is nothing else to lock; held until the transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('cogmill.migration', 0))
