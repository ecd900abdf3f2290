"""The demo's processes, as seen by the one that starts them."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Self

__all__ = ["Child", "ChildFailed"]

_STOP_TIME = 10.0
"""Seconds that a child has to end by itself."""

_LOG_TAIL = 2000


class ChildFailed(Exception):
    """A process of the demo ended although nobody told it to, or ended badly."""


class Child:
    """A Python module that runs as a process; a module's `async with` block ends it, one way or the other.

    It does not hear a Ctrl-C in the terminal: the process that started it does, and ends it. Should that one be killed,
    the child's standard input closes: see `lifeline`.

    name: what it is called in messages. module: which of the demo's. arguments: its own, after the demo's directory.
    """

    def __init__(self, home: Path, name: str, module: str, *arguments: str) -> None:
        self.name = name
        self._command = (sys.executable, "-m", f"taurine.demo.{module}", str(home), *arguments)
        self._log = home / f"{self.name}.log"
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        # A signal that is blocked while the child is made stays blocked in it from its first moment on; here it comes a moment later.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with self._log.open("wb") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, stdin=PIPE, stdout=DEVNULL, stderr=log
                )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._running.returncode is not None:
            return
        try:
            async with asyncio.timeout(_STOP_TIME):
                await self.stop()
        except TimeoutError:
            await self.kill()

    @property
    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self._running.pid

    async def stop(self) -> int:
        """Send SIGTERM, wait for the end and return the exit code."""
        self._running.terminate()
        return await self._running.wait()

    async def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._running.kill()
        await self._running.wait()

    async def finish(self) -> None:
        """Wait until it ends by itself. Raises ChildFailed unless its exit code is 0."""
        await self._running.wait()
        if self._running.returncode != 0:
            raise self._failure()

    def check(self) -> None:
        """Raises ChildFailed if it has ended."""
        if self._running.returncode is not None:
            raise self._failure()

    def _failure(self) -> ChildFailed:
        tail = self._log.read_text("utf-8", "replace")[-_LOG_TAIL:]
        return ChildFailed(f"{self.name} ended with code {self._running.returncode}; the end of its log:\n{tail}")
