-- The live workers are found by columns that no beat changes, so that a beat, which is an UPDATE
-- every few seconds, leaves no entry behind in an index and finds room on its own page.
DROP INDEX cogmill.worker_live;
CREATE INDEX worker_live ON cogmill.worker (incarnation) WHERE status = 'live';
ALTER TABLE cogmill.worker SET (fillfactor = 50);
