"""The program of `support.errand_worker` under test: its start, its signals, what it has said, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import taurine
from support.eventually import eventually
from support.history import History

__all__ = ["ErrandProcess"]

_PATHS = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(taurine.__file__).parents[1])])
_START_SECONDS = 60.0


class ErrandProcess:
    """One such program; it starts with `async with`, is ready then, and is gone after it.

    settings: the variables of the application's settings. name: its worker's in the history, never used twice. options:
    those of Taurine.worker.
    """

    def __init__(self, settings: dict[str, str], history: History, *, name: str = "", **options: Any) -> None:
        self.name = name
        self._history = history
        self._environment = {**settings, "ERRANDS_HISTORY": str(history.directory), "ERRANDS_WORKER": name}
        self._options = {"name": name, **options}
        self._process: asyncio.subprocess.Process | None = None
        self._log = history.directory / f"{name or 'parent'}.log"

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await self.ready()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"worker {self.name} said:\n{self.remarks}")
        await self._end()

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "support.errand_worker", json.dumps(self._options),
                stdout=log, stderr=log, env={**os.environ, **self._environment, "PYTHONPATH": _PATHS},
            )  # fmt: skip

    async def ready(self, count: int = 1) -> None:
        """Return when so many workers have said that they are ready."""

        def said() -> bool:
            assert self.process.returncode is None, f"it ended with {self.process.returncode}:\n{self.remarks}"
            return self.said.count("is ready") >= count

        await eventually(said, _START_SECONDS, f"{self.name} is not ready", every=0.02)

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "start it first"
        return self._process

    @property
    def said(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    @property
    def remarks(self) -> str:
        """The end of it, without what is said of every job."""
        lines = (
            line for line in self.said.splitlines() if " starts, attempt " not in line and " completed in " not in line
        )
        return "\n".join(lines)[-4000:]

    def signal(self, number: signal.Signals) -> None:
        if self.process.returncode is None:
            self.process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, put down as a fault in every lease that it holds."""
        # Frozen first: a job that it started between the record and the kill would else have no fault to explain its repeat.
        self.signal(signal.SIGSTOP)
        self._history.fault("kill", worker=self.name)
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def ended(self, within: float = 60.0) -> int:
        """Its exit code, once it has ended by itself."""
        try:
            return await asyncio.wait_for(self.process.wait(), within)
        except TimeoutError:
            raise AssertionError(f"worker {self.name} has not ended in {within:g} s:\n{self.remarks}") from None

    async def _end(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGKILL)
            await self._process.wait()
