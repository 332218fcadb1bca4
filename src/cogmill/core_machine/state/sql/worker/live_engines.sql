SELECT DISTINCT unnest(engines) AS engine FROM cogmill.worker WHERE status = 'live'
