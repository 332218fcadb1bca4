-- The whole state of the machine. The tasks table is the queue; messages are only wake-ups.
-- Columns that only later issues read (adopted_from, split_of, lane) are here because
-- identity and lineage rest on them and a live fleet cannot add them cheaply.

-- The one clock. Tests replace the body; nothing else in the machine asks for the time.
CREATE FUNCTION cogmill.now() RETURNS timestamptz
    LANGUAGE sql STABLE
    AS $$ SELECT statement_timestamp() $$;

-- Large or shared JSON, stored once under its SHA-256.
CREATE TABLE cogmill.payload (
    digest      text PRIMARY KEY,
    body        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT cogmill.now()
);

CREATE TABLE cogmill.job (
    id              text PRIMARY KEY,
    lineage         text NOT NULL,
    generation      integer NOT NULL CHECK (generation >= 1),
    type            text NOT NULL,
    version         integer NOT NULL,
    inputs          jsonb NOT NULL,
    source_identity text NOT NULL,
    engine          text NOT NULL,
    reach           text NOT NULL,
    owns            text,
    prepared        text NOT NULL REFERENCES cogmill.payload,
    priority        smallint NOT NULL DEFAULT 0,
    lane            text NOT NULL DEFAULT 'default',
    status          text NOT NULL DEFAULT 'accepted'
                    CHECK (status IN ('accepted', 'running', 'successful', 'failed', 'dismissed')),
    outputs         jsonb,
    failure         jsonb,
    created_at      timestamptz NOT NULL DEFAULT cogmill.now(),
    started_at      timestamptz,
    finished_at     timestamptz,
    UNIQUE (lineage, generation),
    CHECK ((finished_at IS NOT NULL) = (status IN ('successful', 'failed', 'dismissed')))
);

-- I7: one non-terminal job owns a destination, and one generation of a lineage lives.
CREATE UNIQUE INDEX job_owner ON cogmill.job (owns) WHERE status IN ('accepted', 'running');
CREATE UNIQUE INDEX job_live_lineage ON cogmill.job (lineage) WHERE status IN ('accepted', 'running');
CREATE INDEX job_created ON cogmill.job (created_at DESC);

CREATE TABLE cogmill.stage (
    job_id        text NOT NULL REFERENCES cogmill.job ON DELETE CASCADE,
    position      smallint NOT NULL,
    name          text NOT NULL,
    status        text NOT NULL DEFAULT 'pending'
                  CHECK (status IN ('pending', 'planning', 'running', 'closed', 'cancelled')),
    plan_memory   bigint NOT NULL,
    plan_seconds  integer NOT NULL,
    max_failures  smallint NOT NULL,
    planned       integer,
    remaining     integer CHECK (remaining >= 0),
    shared        text REFERENCES cogmill.payload,
    started_at    timestamptz,
    finished_at   timestamptz,
    PRIMARY KEY (job_id, position),
    UNIQUE (job_id, name)
);

CREATE TABLE cogmill.worker (
    incarnation          uuid PRIMARY KEY,
    host                 text NOT NULL,
    pid                  integer NOT NULL,
    slots                smallint NOT NULL,
    memory               bigint NOT NULL,
    seconds              integer,
    job_types            text[] NOT NULL,
    engines              text[] NOT NULL,
    reaches              text[] NOT NULL,
    only_job             text,
    beat_seconds         double precision NOT NULL,
    suspect_seconds      double precision NOT NULL,
    status               text NOT NULL DEFAULT 'live' CHECK (status IN ('live', 'dead', 'gone')),
    progress             jsonb NOT NULL DEFAULT '[]',
    started_at           timestamptz NOT NULL DEFAULT cogmill.now(),
    beat_at              timestamptz NOT NULL DEFAULT cogmill.now(),
    suspected_at         timestamptz,
    suspected_postmaster timestamptz,
    ended_at             timestamptz
);
CREATE INDEX worker_live ON cogmill.worker (beat_at) WHERE status = 'live';

CREATE TABLE cogmill.task (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id        text NOT NULL REFERENCES cogmill.job ON DELETE CASCADE,
    position      smallint NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('plan', 'work')),
    key           text NOT NULL,
    status        text NOT NULL DEFAULT 'ready'
                  CHECK (status IN ('ready', 'running', 'succeeded', 'failed', 'cancelled')),
    params        jsonb NOT NULL DEFAULT '{}' CHECK (octet_length(params::text) <= 4096),
    job_type      text NOT NULL,
    job_version   integer NOT NULL,
    engine        text NOT NULL,
    reach         text NOT NULL,
    memory        bigint NOT NULL,
    seconds       integer NOT NULL,
    priority      smallint NOT NULL,
    lane          text NOT NULL,
    due_at        timestamptz NOT NULL DEFAULT cogmill.now(),
    attempt       integer NOT NULL DEFAULT 0,
    failures      smallint NOT NULL DEFAULT 0,
    max_failures  smallint NOT NULL,
    worker        uuid,
    deadline_at   timestamptz,
    failure       jsonb,
    adopted_from  bigint,
    split_of      bigint,
    created_at    timestamptz NOT NULL DEFAULT cogmill.now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    UNIQUE (job_id, position, kind, key),
    FOREIGN KEY (job_id, position) REFERENCES cogmill.stage (job_id, position) ON DELETE CASCADE,
    CHECK ((status = 'running') = (worker IS NOT NULL)),
    CHECK ((status = 'running') = (deadline_at IS NOT NULL)),
    CHECK ((finished_at IS NOT NULL) = (status IN ('succeeded', 'failed', 'cancelled')))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500);

CREATE INDEX task_queue ON cogmill.task (priority DESC, due_at, id) WHERE status = 'ready';
CREATE INDEX task_open ON cogmill.task (job_id, position) WHERE status IN ('ready', 'running');
CREATE INDEX task_failed ON cogmill.task (job_id, position) WHERE status = 'failed';
CREATE INDEX task_held ON cogmill.task (worker) WHERE status = 'running';

CREATE TABLE cogmill.task_result (
    task_id      bigint PRIMARY KEY REFERENCES cogmill.task ON DELETE CASCADE,
    result       jsonb,
    payload      text REFERENCES cogmill.payload,
    peak_memory  bigint,
    seconds      double precision NOT NULL,
    CHECK ((result IS NULL) <> (payload IS NULL))
);

-- The outbox: what to tell sleeping workers, written in the transaction that made it true.
CREATE TABLE cogmill.wakeup (
    job_id      text PRIMARY KEY REFERENCES cogmill.job ON DELETE CASCADE,
    generation  bigint NOT NULL DEFAULT 1,
    sent        bigint NOT NULL DEFAULT 0,
    due_at      timestamptz NOT NULL DEFAULT cogmill.now()
);
CREATE INDEX wakeup_unsent ON cogmill.wakeup (due_at) WHERE sent < generation;

CREATE TABLE cogmill.cleanup (
    job_id       text PRIMARY KEY REFERENCES cogmill.job ON DELETE CASCADE,
    job_type     text NOT NULL,
    job_version  integer NOT NULL,
    reach        text NOT NULL,
    due_at       timestamptz NOT NULL,
    attempt      integer NOT NULL DEFAULT 0,
    worker       uuid,
    failure      jsonb,
    done_at      timestamptz,
    CHECK (done_at IS NULL OR worker IS NULL)
);
CREATE INDEX cleanup_owed ON cogmill.cleanup (due_at) WHERE done_at IS NULL;

CREATE TABLE cogmill.event (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at      timestamptz NOT NULL DEFAULT cogmill.now(),
    job_id  text NOT NULL,
    kind    text NOT NULL,
    stage   text,
    task    text,
    data    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_page ON cogmill.event (xid, id);
CREATE INDEX event_job ON cogmill.event (job_id, id);

CREATE TABLE cogmill.reconciliation_run (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at   timestamptz NOT NULL DEFAULT cogmill.now(),
    finished_at  timestamptz,
    dry_run      boolean NOT NULL
);

CREATE TABLE cogmill.reconciliation_action (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id   bigint NOT NULL REFERENCES cogmill.reconciliation_run ON DELETE CASCADE,
    finder   text NOT NULL,
    subject  text NOT NULL,
    reason   text NOT NULL,
    at       timestamptz NOT NULL DEFAULT cogmill.now()
);
CREATE INDEX reconciliation_action_run ON cogmill.reconciliation_action (run_id);
