"""The producer's process: adds one job per file and ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from taurine.demo.library import library_root, source_files
from taurine.demo.stage import QUEUE, shared_server
from taurine.queue import Queue


async def produce(home: Path, limit: int | None) -> None:
    """Add the jobs. The file is the job's id too, so that adding it again would add nothing."""
    files = source_files(library_root(), limit=limit)
    async with shared_server(home) as server, Queue(QUEUE, server.url) as queue:
        await queue.add_many([("index", {"file": file}, {"job_id": file}) for file in files])


if __name__ == "__main__":
    asyncio.run(produce(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None))
