COPY planned_task (key, params, memory, seconds, still_seconds, adopted_from) FROM STDIN
