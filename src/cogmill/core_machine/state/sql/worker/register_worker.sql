INSERT INTO cogmill.worker (
    incarnation, host, pid, slots, memory, seconds, job_types, engines, reaches, only_jobs,
    on_demand, beat_seconds, suspect_seconds
)
VALUES (
    %(incarnation)s, %(host)s, %(pid)s, %(slots)s, %(memory)s, %(seconds)s, %(job_types)s,
    %(engines)s, %(reaches)s, %(only_jobs)s, %(on_demand)s, %(beat_seconds)s, %(suspect_seconds)s
)
