"""Where a draining worker of ours spends its time: `python -m benchmarks.profile_drain [JOBS]`."""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import sys

from benchmarks import process
from benchmarks.peers import TAURINE
from benchmarks.peers.program import QUEUE
from benchmarks.peers.taurine_queue import TaurineQueue
from benchmarks.server import running_server

JOBS = 100_000
CONCURRENCY = 100
LINES_SHOWN = 40


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    with running_server() as server:
        process.run(TAURINE.command, "fill", server.url, jobs=jobs)
        profile = cProfile.Profile()
        profile.runcall(asyncio.run, _drain(server.url, jobs))
    pstats.Stats(profile).sort_stats("tottime").print_stats(LINES_SHOWN)


async def _drain(url: str, jobs: int) -> None:
    finished = asyncio.Event()
    left = jobs

    def on_done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            finished.set()

    async with TaurineQueue(url).working(QUEUE, CONCURRENCY, lambda payload: None, on_done):
        await finished.wait()


if __name__ == "__main__":
    main()
