INSERT INTO cogmill.reconciliation_action (run_id, finder, subject, reason)
VALUES (%(run_id)s, %(finder)s, %(subject)s, %(reason)s)
