UPDATE cogmill.reconciliation_run SET finished_at = cogmill.now() WHERE id = %(run_id)s
