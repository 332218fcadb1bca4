"""Eight faults, five systems: what is lost, doubled or stuck, and how soon it is made good.

    make bench-faults     (or: .venv/bin/python -m benchmarks.faults --trials 3 --bound 45)

cogmill, Procrastinate, PgQueuer, DBOS Transact and Celery with Redis do the same units of work
(`work`) through thin adapters (`with_*`), each set up as its own documentation advises for safety;
every such choice names its page. All beat, look and give up at one pace (`pace`). `scenarios` has
the faults, `trial` counts. Whole runs go to build/bench-faults.json, .md and .png.

What is counted, by one rule for all
------------------------------------
A *unit* is something that somebody wants done once, under a name. An *execution* is one try; every
system here may try again (at least once), so executions are reported apart and are no fault. An
*outcome* is what the system takes as good: a result that it stores or records as the end of the
unit, or a result that it hands on to a follow-up. Every execution returns a token of its own, so it
is known whose result was taken.

lost
    No outcome, and the system holds no record from which one could still come (or has given up a
    healthy unit).
doubled
    Outcomes beyond the first: the system recorded a second end of the unit (also of a second job
    that it had accepted for the same unit), replaced a stored result by a later one, handed the
    results of two executions on to follow-ups, or began a fan-in's follow-up twice.
stuck
    Not over within the bound, though the system still holds it. For the poison unit, over means
    given up.
seconds
    From the fault to the record of the last healthy unit's outcome. For the poison task, from the
    submit to the end of its siblings.

Where outcomes are read: cogmill's events and task results; Procrastinate's and PgQueuer's own
tables of events (they store no results, and have no follow-ups); DBOS's workflow status, watched by
a trigger, and its next step; Celery's result backend, with all that it publishes, and a linked
callback. Effects and follow-ups are noted in a ledger outside all systems (`ledger`).

How the faults are made
-----------------------
Workers run under a supervisor that starts them again a second after they end. A kill or freeze
meets the worker's whole process tree. Every trial has a fresh database (or an emptied Redis) and
begins with a worker that has done a first unit. PostgreSQL is cogmill's embedded server, one a
system; Redis has its append-only file synced always. Whoever kills a server kills it with -9.

What this does not tell
-----------------------
Throughput; networks; machines that lose power with unsynced disks. Siblings of the poison unit are
jobs of their own: within one job of cogmill, a task that fails for good fails the job by design. A
DBOS step that writes to the same database could be a transaction, and then its effect, not only its
outcome, is recorded once; here an effect stands for something outside. The poison unit's stuck in
three systems is what their documentation says: none of them limits how often a unit may kill.
"""
