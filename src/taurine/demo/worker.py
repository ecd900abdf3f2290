"""A worker's process: the handlers, run until it is told to stop."""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
import warnings
from pathlib import Path

from taurine.demo.counts import Counts, count_file
from taurine.demo.journal import Journal
from taurine.demo.library import library_root
from taurine.demo.lifeline import told_to_stop
from taurine.demo.stage import LOOKS, Source, Stage, Watch, journal_path, shared_server
from taurine.jobs.handler.context import Context
from taurine.jobs.reconciler.upkeep import Upkeep

_PAUSE = 0.02
"""Seconds between two looks of a watch."""


def attach_handlers(stage: Stage, journal: Journal) -> None:
    """Give the job types their handlers: plain functions, which run in threads and leave the event loop free to renew leases."""
    root = library_root()

    @stage.index.handler
    def index(source: Source) -> Counts:
        journal.write(source.file)
        return count_file(root / source.file)

    @stage.digest.handler
    def digest(source: Source) -> str:
        return hashlib.sha256((root / source.file).read_bytes()).hexdigest()

    @stage.watch.handler
    def watch(wanted: Watch, ctx: Context) -> int:
        looks = 0
        while not ctx.cancelled:
            looks += Path(wanted.folder).is_dir()
            time.sleep(_PAUSE)
        return looks


async def work(home: Path, name: str) -> None:
    """Run jobs, and look after those that others have lost."""
    journal = Journal(journal_path(home), name)
    async with shared_server(home) as server:
        stage = Stage(home, server.url)
        attach_handlers(stage, journal)
        upkeep = Upkeep(reconcile_every=LOOKS, reconcile_age=LOOKS)
        async with stage.app, stage.app.worker(name=name, stalled_interval=LOOKS, upkeep=upkeep):
            await told_to_stop()
    journal.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore", SyntaxWarning)  # the files are data here
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
