-- Filled by COPY before the fence is taken, so that a frozen zombie blocks nobody.
CREATE TEMPORARY TABLE planned_task (
    key text NOT NULL, params jsonb NOT NULL, memory bigint NOT NULL, seconds integer NOT NULL,
    still_seconds integer, adopted_from bigint
) ON COMMIT DROP
