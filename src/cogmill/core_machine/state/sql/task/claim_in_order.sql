-- For this transaction: a claim walks along the index of the queue until one task fits. By what a
-- fan-out has left of the statistics, or by a plan from before it, it would sort the whole queue.
SELECT set_config('enable_sort', 'off', true), set_config('enable_bitmapscan', 'off', true)
