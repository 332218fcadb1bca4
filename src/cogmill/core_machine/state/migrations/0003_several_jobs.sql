-- A worker may be that of several jobs. An addition: workers of the schema before live on and write
-- `only_job`, which nobody else reads any more.

ALTER TABLE cogmill.worker ADD COLUMN only_jobs text[];
UPDATE cogmill.worker SET only_jobs = ARRAY[only_job] WHERE only_job IS NOT NULL;
