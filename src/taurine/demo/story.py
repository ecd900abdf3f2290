"""What happens in the demo, in order."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from contextlib import AsyncExitStack
from pathlib import Path

from taurine import __version__
from taurine.demo.children import Child
from taurine.demo.counts import Counts, count_file
from taurine.demo.display import Display
from taurine.demo.indexing import Indexing, Stuck
from taurine.demo.journal import read_journal
from taurine.demo.library import library_root, source_files
from taurine.demo.losing import Losing
from taurine.demo.operating import Operating
from taurine.demo.stage import QUEUE, Stage, journal_path
from taurine.demo.verdict import Evidence, judge
from taurine.embedded import EmbeddedServer
from taurine.queue import Connection, Queue

__all__ = ["Story", "Stuck"]


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

        Raises Stuck, ChildFailed, TaurineError.
        """
        self._server_pid = server.pid
        self._display.say("server", f"Valkey on a private unix socket, process {server.pid}; records in SQLite")
        stage, connection = Stage(self._home, server.url), Connection(server.url)
        stack.push_async_callback(connection.close)
        await stack.enter_async_context(stage.app)
        queue = Queue(QUEUE, connection, prefix=stage.app.settings.prefix)

        indexing = Indexing(self._home, stage, queue, self._display)
        survivor = await indexing.run(stack, total=len(self._files), limit=self._limit)
        operating = Operating(self._home, stage, self._display)
        await operating.run()
        losing = Losing(stage, connection, self._root, self._display)
        await losing.run(self._files)

        self._seconds = indexing.seconds
        self._evidence = Evidence(indexed=indexing.seen, operated=operating.seen, lost=losing.seen)
        await self._stop(survivor)
        await self._count_plainly()

    async def _stop(self, survivor: Child) -> None:
        if code := await survivor.stop():
            self._evidence.ended_badly = [f"{survivor.name} (exit code {code})"]
        self._evidence.indexed.journal = read_journal(journal_path(self._home))

    async def _count_plainly(self) -> None:
        by_loop: dict[str, Counts] = {}
        started = time.monotonic()
        with self._display.progress("checking", len(self._files)) as show:
            for file in self._files:
                by_loop[file] = count_file(self._root / file)
                show(len(by_loop))
                await asyncio.sleep(0)  # so that a Ctrl-C is heard
        self._evidence.indexed.by_loop = by_loop
        self._loop_seconds = time.monotonic() - started

    def conclude(self) -> bool:
        """Show the totals and the checks, when all has been ended; True if every check holds."""
        evidence = self._evidence
        if _is_there(self._server_pid):
            evidence.ended_badly = [*evidence.ended_badly, f"the server (process {self._server_pid})"]
        self._display.table(
            (Counts.total(evidence.indexed.by_records.values()), self._seconds),
            (Counts.total(evidence.indexed.by_loop.values()), self._loop_seconds),
        )
        checks = judge(evidence)
        self._display.verdict(checks)
        return all(check.holds for check in checks)


def _is_there(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
