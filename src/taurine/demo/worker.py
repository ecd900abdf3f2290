"""A worker's process: the support desk's handlers, run until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from taurine.demo.desk import LOOKS, TRIAGE, Desk
from taurine.demo.lifeline import told_to_stop
from taurine.jobs.reconciler.upkeep import Upkeep

_TRIAGES = 16
"""Tickets at once."""

_GRACE = 2.0
"""Seconds that running jobs may take when the demo is ended; the default is 30. An export may wait for tickets for
longer than anybody wants to wait for it.
"""


async def work(home: Path, name: str) -> None:
    """Run jobs, and look after those that others have lost."""
    desk = Desk(home)
    upkeep = Upkeep(reconcile_every=LOOKS, reconcile_age=LOOKS)
    worker = desk.app.worker(
        name=name, concurrency={TRIAGE: _TRIAGES}, stalled_interval=LOOKS, grace=_GRACE, upkeep=upkeep
    )
    async with desk.app, worker:
        await told_to_stop()
    desk.office.close()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
