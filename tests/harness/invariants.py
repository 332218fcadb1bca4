"""The invariants I4 to I7 as queries, each of which finds a row where one is violated."""

from __future__ import annotations

TERMINAL = ("successful", "failed", "dismissed")
ENDED = ("succeeded", "failed", "cancelled")
VIOLATIONS = {
    "I4: a closed stage has an open task": """
        SELECT 1 FROM task JOIN stage USING (job_id, position)
        WHERE stage.status IN ('closed', 'cancelled') AND task.status IN ('ready', 'running')""",
    "I4: a stage was planned twice": """
        SELECT 1 FROM task WHERE kind = 'plan' GROUP BY job_id, position HAVING count(*) > 1""",
    "I4: a stage began before the one before it closed": """
        SELECT 1 FROM stage AS later JOIN stage AS early USING (job_id)
        WHERE early.position < later.position AND early.status <> 'closed'
          AND later.status IN ('planning', 'running', 'closed')""",
    "I4: the count of what remains is wrong": """
        SELECT 1 FROM stage WHERE status IN ('running', 'closed') AND remaining <> (
            SELECT count(*) FROM task WHERE task.job_id = stage.job_id
              AND task.position = stage.position AND kind = 'work'
              AND task.status <> 'succeeded')""",
    "I4: a closed stage has a task that did not succeed": """
        SELECT 1 FROM task JOIN stage USING (job_id, position)
        WHERE stage.status = 'closed' AND task.status <> 'succeeded'""",
    "I5: a terminal job has live parts": """
        SELECT 1 FROM job WHERE status IN ('successful', 'failed', 'dismissed') AND (
            EXISTS (SELECT FROM task WHERE job_id = job.id AND status IN ('ready', 'running'))
            OR EXISTS (SELECT FROM stage WHERE job_id = job.id
                       AND status IN ('pending', 'planning', 'running')))""",
    "I6: a terminal job is not owed its clean-up": """
        SELECT 1 FROM job WHERE status IN ('successful', 'failed', 'dismissed')
          AND NOT EXISTS (SELECT FROM cleanup WHERE job_id = job.id)""",
    "I6: a live job is at no stage": """
        SELECT 1 FROM job WHERE status IN ('accepted', 'running')
          AND NOT EXISTS (SELECT FROM stage WHERE job_id = job.id
                          AND status IN ('planning', 'running'))""",
    "I6: a task is held by nobody that beats or is looked for": """
        SELECT 1 FROM task LEFT JOIN worker ON incarnation = worker
        WHERE task.status = 'running' AND incarnation IS NULL""",
    "I7: a destination or a lineage has two live jobs": """
        SELECT 1 FROM job AS a JOIN job AS b ON a.id < b.id AND (a.owns = b.owns
            OR a.lineage = b.lineage)
        WHERE a.status IN ('accepted', 'running') AND b.status IN ('accepted', 'running')""",
    "a succeeded task lacks its result, or another has one": """
        SELECT 1 FROM task LEFT JOIN task_result ON task_id = id
        WHERE (task.status = 'succeeded') <> (task_id IS NOT NULL)""",
    "a clean-up is claimed while a live worker still lists the job": """
        SELECT 1 FROM cleanup JOIN worker AS w ON w.status = 'live',
            jsonb_to_recordset(w.progress) AS held (job_id text)
        WHERE cleanup.worker IS NOT NULL AND held.job_id = cleanup.job_id""",
}
