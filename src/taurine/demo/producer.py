"""The producer's process: enqueues one job per file and ends."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from taurine.demo.library import library_root, source_files
from taurine.demo.stage import Source, Stage, shared_server


async def produce(home: Path, limit: int | None) -> None:
    """Enqueue the jobs. The file makes the job's id, so that enqueueing it again would add nothing."""
    files = source_files(library_root(), limit=limit)
    async with shared_server(home) as server:
        stage = Stage(home, server.url)
        async with stage.app:
            await stage.index.enqueue_many([Source(file=file) for file in files])


if __name__ == "__main__":
    asyncio.run(produce(Path(sys.argv[1]), int(sys.argv[2]) if sys.argv[2:] else None))
