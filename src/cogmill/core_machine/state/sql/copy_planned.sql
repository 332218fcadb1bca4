COPY planned_task (key, params, memory, seconds) FROM STDIN
