-- None that a task or a clean-up still names: the finders ask what became of it.
DELETE FROM cogmill.worker
WHERE incarnation IN (SELECT incarnation FROM cogmill.worker
                      WHERE status <> 'live'
                        AND ended_at < cogmill.now() - make_interval(secs => %(age)s)
                        AND NOT EXISTS (SELECT FROM cogmill.task
                                        WHERE task.worker = worker.incarnation
                                          AND task.status = 'running')
                      LIMIT %(limit)s)
