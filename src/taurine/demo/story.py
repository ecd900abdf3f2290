"""What happens in the demo, in order."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AsyncExitStack
from pathlib import Path

from taurine import __version__
from taurine.demo.children import Child
from taurine.demo.counts import Counts, count_file
from taurine.demo.display import Display
from taurine.demo.journal import read_journal
from taurine.demo.library import library_root, source_files
from taurine.demo.stage import LEASE, QUEUE, STALLED_INTERVAL, journal_path
from taurine.demo.verdict import Evidence, judge
from taurine.embedded import EmbeddedServer
from taurine.queue import Job, Queue

__all__ = ["Story", "Stuck"]

_LOOK = 0.05
"""Seconds between looks at the queue's counts."""

_PATIENCE = 30.0
"""Seconds without any job completed after which the demo gives up."""


class Stuck(Exception):
    """The demo does not get on."""


class Story:
    """One run of the demo.

    home: a directory for its files. limit: at most this many of the library's files; None: all.
    """

    def __init__(self, home: Path, display: Display, *, limit: int | None) -> None:
        self._home = home
        self._display = display
        self._limit = limit
        self._root = library_root()
        self._files = source_files(self._root, limit=limit)
        self._server_pid: int | None = None
        self._evidence = Evidence()
        self._seconds = self._loop_seconds = 0.0

    def announce(self) -> None:
        python = f"Python {platform.python_version()}"
        self._display.say(
            "Taurine",
            f"{__version__}: index {len(self._files):,} files of the standard library of {python}, a job each",
        )

    async def tell(self, server: EmbeddedServer, stack: AsyncExitStack) -> None:
        """All but the end, which comes with `stack`: whatever is started is put there, so the caller ends it, also after a cancellation.

        Raises Stuck, ChildFailed, StoreError.
        """
        say, total = self._display.say, len(self._files)
        self._server_pid = server.pid
        say("server", f"Valkey on a private unix socket, process {server.pid}")
        queue = await stack.enter_async_context(Queue(QUEUE, server.url))
        survivor, victim = [
            await stack.enter_async_context(Child(self._home, name, "worker", name))
            for name in ("worker-1", "worker-2")
        ]
        await self._until_connected(queue, survivor, victim)
        say("workers", f"processes {survivor.pid} and {victim.pid}")
        shown = "so that one sees the recovery; by default 30 s both"
        say("", f"leases of {LEASE:g} s, looked at every {STALLED_INTERVAL:g} s, {shown}")

        producer = Child(self._home, "producer", "producer", *([] if self._limit is None else [str(self._limit)]))
        await (await stack.enter_async_context(producer)).finish()
        say("producer", f"added {total:,} jobs and ended")
        await self._index(queue, total, survivor, victim)
        await self._read_results(queue)
        await self._stop(survivor)
        await self._count_plainly()

    async def _until_connected(self, queue: Queue, *expected: Child) -> None:
        """Wait until the server has these workers and no other."""
        deadline = time.monotonic() + _PATIENCE
        while {worker.name for worker in await queue.workers() or ()} != {child.name for child in expected}:
            _check_alive(expected)
            if time.monotonic() > deadline:
                raise Stuck(
                    f"the server did not have the workers {[child.name for child in expected]} in {_PATIENCE:g} s"
                )
            await asyncio.sleep(_LOOK)

    # Half of the jobs, the kill, and the rest -------------------------------------------------------------------------------

    async def _index(self, queue: Queue, total: int, survivor: Child, victim: Child) -> None:
        with self._display.progress("indexing", total) as show:
            done = await self._until_done(queue, total // 2, show, survivor, victim)
            await self._kill(queue, victim, survivor, done)
            await self._until_done(queue, total, show, survivor)

    async def _until_done(self, queue: Queue, wanted: int, show: Callable[[int], None], *workers: Child) -> int:
        done, changed_at = 0, time.monotonic()
        while True:
            counts = await queue.counts("completed", "failed")
            show(counts["completed"])
            if sum(counts.values()) >= wanted:
                return counts["completed"]
            _check_alive(workers)
            if sum(counts.values()) > done:
                done, changed_at = sum(counts.values()), time.monotonic()
            elif time.monotonic() - changed_at > _PATIENCE:
                raise Stuck(f"no job ended in {_PATIENCE:g} s; the queue has {await queue.counts()}")
            await asyncio.sleep(_LOOK)

    async def _kill(self, queue: Queue, victim: Child, survivor: Child, done: int) -> None:
        await victim.kill()
        # Until its connections are gone, what it had sent before its death may still run.
        await self._until_connected(queue, survivor)
        held = [job.id for job in await queue.get_jobs("active") if job.processed_by == victim.name]
        self._evidence.victim, self._evidence.held = victim.name, held
        self._display.say("kill -9", f"{victim.name} after {done:,} jobs; it held {len(held)}: {', '.join(held)}")

    # What came of it --------------------------------------------------------------------------------------------------------

    async def _read_results(self, queue: Queue) -> None:
        jobs = await queue.get_jobs("completed")
        self._evidence.by_queue = {job.data["file"]: Counts(**job.result) for job in jobs}
        self._seconds = _span(jobs)
        counts = await queue.counts()
        self._evidence.unfinished = {state: count for state, count in counts.items() if state != "completed"}

    async def _stop(self, survivor: Child) -> None:
        if code := await survivor.stop():
            self._evidence.ended_badly = [f"{survivor.name} (exit code {code})"]
        self._evidence.journal = read_journal(journal_path(self._home))

    async def _count_plainly(self) -> None:
        by_loop: dict[str, Counts] = {}
        started = time.monotonic()
        with self._display.progress("checking", len(self._files)) as show:
            for file in self._files:
                by_loop[file] = count_file(self._root / file)
                show(len(by_loop))
                await asyncio.sleep(0)  # so that a Ctrl-C is heard
        self._evidence.by_loop = by_loop
        self._loop_seconds = time.monotonic() - started

    def conclude(self) -> bool:
        """Show the totals and the checks, when all has been ended; True if every check holds."""
        evidence = self._evidence
        if _is_there(self._server_pid):
            evidence.ended_badly = [*evidence.ended_badly, f"the server (process {self._server_pid})"]
        self._display.table(
            (Counts.total(evidence.by_queue.values()), self._seconds),
            (Counts.total(evidence.by_loop.values()), self._loop_seconds),
        )
        checks = judge(evidence)
        self._display.verdict(checks)
        return all(check.holds for check in checks)


def _check_alive(children: Iterable[Child]) -> None:
    for child in children:
        child.check()


def _span(jobs: Collection[Job]) -> float:
    """Seconds from the first job's creation to the last one's end, as the queue has them."""
    if not jobs:
        return 0.0
    return max(job.finished_at or 0.0 for job in jobs) - min(job.created_at for job in jobs)


def _is_there(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
