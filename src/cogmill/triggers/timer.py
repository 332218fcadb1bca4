"""The timer trigger: one step of the reconciler, for hosts whose workers do not live on."""

from __future__ import annotations

from cogmill import runtime
from cogmill.core_machine.reconciliation import Action
from cogmill.settings import Settings


def on_timer(settings: Settings, *, dry_run: bool = False) -> list[Action]:
    """Find and repair once; call it at intervals, in as many copies as the host likes.

    Parameters
    ----------
    dry_run : bool
        True: find only, and change nothing.

    Returns
    -------
    list of Action
        What was found, in order.
    """
    with runtime.machine(settings) as machine:
        return machine.reconciler().step(dry_run=dry_run)
