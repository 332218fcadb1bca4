"""One pace for every system, so that seconds can be compared; standard library only.

Each documentation's own defaults are made for networks (silence of 30 s and more). They are scaled
to these values in every system alike; where a system has no such knob, its adapter says so.
"""

from __future__ import annotations

BEAT = 1.0
"""Seconds between two heartbeats."""
SILENCE = 3.0
"""Seconds without a heartbeat after which somebody is taken for dead."""
LOOK = 1.0
"""Seconds between two looks at the queue by somebody whom no message has woken."""
VISIBILITY = 10
"""Celery's visibility time-out. It counts from delivery, not from a last heartbeat, so it must be
longer than the longest task (Celery, Redis, Caveats), here a held one; and whole seconds. That is
why it is not the silence that the others get."""
SLOTS = 2
"""Units that one worker works on at once."""
RESTART = 1.0
"""Seconds after which the supervisor starts a worker again that has ended, as systemd's
``Restart=always`` with ``RestartSec=1`` would; also how long a killed server stays away."""
POISON_ATTEMPTS = 5
"""How often a unit that kills its process may be tried, in the two systems where that can be said:
cogmill's own default, and instead of DBOS's 100, which no trial could await."""
