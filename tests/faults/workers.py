"""Worker processes under test, the jobs they get, and what the store shows of those afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import taurine
from faults.worker_process import Broken
from support.eventually import eventually
from support.history import History
from support.store import RawStore
from taurine.options import AddOptions
from taurine.queue import Queue

__all__ = ["WorkerProcess", "add_jobs", "cpu_seconds", "states", "until_ended"]

_TESTS = Path(__file__).parents[1]
_SOURCE = Path(taurine.__file__).parents[1]
_START_SECONDS = 40.0
_STOP_SECONDS = 30.0


class WorkerProcess:
    """One worker in a process of its own, on `url` and `prefix`; it starts with `async with` and has ended after it.

    name: never used twice in a history, since leases are counted by it. options: those of Worker.
    """

    program = "worker_process.py"

    def __init__(
        self,
        url: str,
        prefix: str,
        history: History,
        *,
        name: str,
        queue: str = "q",
        broken: Broken = "",
        **options: Any,
    ) -> None:
        self.name = name
        self._history = history
        self._settings = {
            "url": url, "prefix": prefix, "queue": queue, "history": str(history.directory), "name": name, "broken": broken,
            **options,
        }  # fmt: skip
        self._process: asyncio.subprocess.Process | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - it ends with the `async with`

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.stop()
        finally:
            if error is not None:
                error.add_note(f"worker {self.name} said on stderr:\n{self.stderr}")
            await self._end()

    async def _end(self) -> None:
        self._signal(signal.SIGKILL)
        await self._gone()
        self._stderr.close()

    @property
    def pid(self) -> int:
        assert self._process is not None, "start it first"
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What it has complained of so far."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace")

    async def start(self) -> None:
        """Start the process and return when its worker is ready."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name(self.program)), json.dumps(self._settings),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_SOURCE)])},
        )  # fmt: skip
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _START_SECONDS)
        except TimeoutError:
            raise AssertionError(f"worker {self.name} was not ready in {_START_SECONDS:g} s:\n{self.stderr}") from None
        assert line == b"ready\n", f"worker {self.name} did not start:\n{self.stderr}"

    async def kill(self) -> None:
        """SIGKILL, put down as a fault in every lease that it holds."""
        # Frozen first: a job that it started between the record and the kill would else have no fault to explain its repeat.
        self.freeze()
        self._history.fault("kill", worker=self.name)
        self._signal(signal.SIGKILL)
        await self._gone()

    def freeze(self) -> None:
        """SIGSTOP: its connections stay open, and it renews nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    async def stop(self) -> None:
        """SIGTERM, and wait for the end that its worker makes in good order."""
        self._signal(signal.SIGTERM)
        await asyncio.wait_for(self._gone(), _STOP_SECONDS)

    async def ended(self, within: float = 20.0) -> int:
        """The exit status, once the process has ended by itself; minus the signal that ended it."""
        assert self._process is not None, "start it first"
        return await asyncio.wait_for(self._process.wait(), within)

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.communicate()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)


def cpu_seconds(*processes: WorkerProcess) -> float:
    """CPU time used so far; 0 where the system does not tell."""
    ticks = 0
    for process in processes:
        stat = Path(f"/proc/{process.pid}/stat")
        if stat.exists():
            fields = stat.read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


async def add_jobs(
    queue: Queue, history: History, count: int, data: Mapping[str, Any] | None = None, **options: Any
) -> None:
    """Add jobs `j0`, `j1`, … in slices, each put down as acked, refused or unknown."""
    for first in range(0, count, 1000):
        ids = [f"j{number}" for number in range(first, min(first + 1000, count))]
        with history.enqueuing(*ids):
            await queue.add_many([("task", dict(data or {}), AddOptions(**options, job_id=job_id)) for job_id in ids])


async def states(store: RawStore, base: str) -> dict[str, str]:
    """The state of each job that stands in a collection of the queue whose keys start with `base`."""
    found: dict[str, str] = {}
    for name in ("wait", "active"):
        found |= dict.fromkeys(await store.lrange(f"{base}{name}", 0, -1), name)
    for name in ("prioritized", "delayed", "waiting-children", "completed", "failed"):
        found |= dict.fromkeys(await store.zrange(f"{base}{name}", 0, -1), name)
    return found


async def until_ended(store: RawStore, base: str, count: int, *, within: float = 60.0) -> None:
    """Wait until this many jobs have ended."""

    async def all_ended() -> bool:
        ended = await ended_jobs(store, base)
        assert ended >= count, f"{ended} of {count} jobs have ended"
        return True

    await eventually(all_ended, within, "the queue was not drained", every=0.05)


async def ended_jobs(store: RawStore, base: str) -> int:
    """How many jobs of the queue have completed or failed."""
    return await store.zcard(f"{base}completed") + await store.zcard(f"{base}failed")
