"""Worker programs in processes of their own, which a test stops, continues and kills."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

from support import executed_worker as run_worker

__all__ = ["Program", "run_worker"]


class Program:
    """One `executed_worker.py`."""

    def __init__(self, settings: dict[str, Any], mode: str) -> None:
        self._arguments = [str(Path(run_worker.__file__)), json.dumps({**settings, "mode": mode})]
        self._process: Process | None = None
        self._starting = asyncio.create_task(self._start())

    async def _start(self) -> Process:
        self._process = await asyncio.create_subprocess_exec(sys.executable, *self._arguments)
        return self._process

    async def signal(self, number: signal.Signals) -> None:
        (await self._starting).send_signal(number)

    async def died(self) -> int:
        """Wait until it is dead; returns the exit code."""
        async with asyncio.timeout(60):
            return await (await self._starting).wait()

    async def end(self) -> None:
        process = await self._starting
        if process.returncode is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        await process.wait()
