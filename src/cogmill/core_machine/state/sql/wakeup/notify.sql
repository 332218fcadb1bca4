SELECT pg_notify('cogmill_wakeup', %(reference)s)
