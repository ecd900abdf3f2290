"""A worker's process: runs jobs until it is told to stop."""

from __future__ import annotations

import asyncio
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

from taurine.demo.counts import count_file
from taurine.demo.journal import Journal
from taurine.demo.library import library_root
from taurine.demo.lifeline import told_to_stop
from taurine.demo.stage import CONCURRENCY, LEASE, QUEUE, STALLED_INTERVAL, journal_path, shared_server
from taurine.queue import Job, Worker


async def work(home: Path, name: str) -> None:
    """Run jobs. A file is parsed in a thread, which leaves the event loop free to renew leases."""
    root, journal = library_root(), Journal(journal_path(home), name)

    async def index(job: Job) -> dict[str, Any]:
        file: str = job.data["file"]
        journal.write("ran", file)
        return asdict(await asyncio.to_thread(count_file, root / file))

    def recovered(file: str) -> None:
        journal.write("recovered", file)

    async with shared_server(home) as server:
        worker = Worker(
            QUEUE,
            index,
            server.url,
            name=name,
            concurrency=CONCURRENCY,
            lease=LEASE,
            stalled_interval=STALLED_INTERVAL,
        )
        worker.on("stalled", recovered)
        async with worker:
            await told_to_stop()
    journal.close()


if __name__ == "__main__":
    warnings.simplefilter("ignore", SyntaxWarning)  # the files are data here
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
