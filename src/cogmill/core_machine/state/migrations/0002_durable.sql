-- Generations that adopt, tasks that are planned again smaller, debts that move along, and what the
-- reconciler needs to tell a lost wake-up from a backlog. Only additions: workers of the schema
-- before live on.

ALTER TABLE cogmill.job
    ADD COLUMN plan_identity text NOT NULL DEFAULT '',
    -- Stages before this position may adopt: all of them when NULL, none when 0.
    ADD COLUMN adopt_before smallint;

ALTER TABLE cogmill.task
    ADD COLUMN still_seconds integer,
    ADD COLUMN memory_failures smallint NOT NULL DEFAULT 0,
    -- Of a split task: bytes that a part may need, and what the whole would.
    ADD COLUMN split_budget bigint,
    ADD COLUMN split_memory bigint,
    DROP CONSTRAINT task_kind_check,
    ADD CONSTRAINT task_kind_check CHECK (kind IN ('plan', 'work', 'split'));

-- A debt whose objects a live generation uses has an heir, and is due when that one has ended.
ALTER TABLE cogmill.cleanup
    ADD COLUMN heir text,
    ADD COLUMN claimed_at timestamptz;
CREATE INDEX cleanup_heir ON cogmill.cleanup (heir) WHERE done_at IS NULL;

ALTER TABLE cogmill.wakeup ADD COLUMN sent_at timestamptz;

-- One that works only when its host is told is no reason to think that a message is not needed.
ALTER TABLE cogmill.worker ADD COLUMN on_demand boolean NOT NULL DEFAULT false;
CREATE INDEX task_retrying ON cogmill.task (job_id) WHERE status = 'ready' AND failures > 0;

CREATE INDEX job_live ON cogmill.job (id) WHERE status IN ('accepted', 'running');
CREATE INDEX worker_ended ON cogmill.worker (ended_at) WHERE status <> 'live';
CREATE INDEX event_at ON cogmill.event (at);
CREATE INDEX reconciliation_run_started ON cogmill.reconciliation_run (started_at);
