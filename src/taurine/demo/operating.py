"""The second act: what users and operators see of a job that fails for good, and of one that they no longer want."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

from taurine.demo.display import Display
from taurine.demo.stage import Source, Stage, Watch
from taurine.demo.verdict import Operated
from taurine.errors import JobCancelled, JobFailed
from taurine.jobs.enqueue.handle import JobHandle

__all__ = ["Operating"]

_PATIENCE = 30.0
_LOOK = 0.02


class Operating:
    """The second act."""

    def __init__(self, home: Path, stage: Stage, display: Display) -> None:
        self._home = home
        self._stage = stage
        self._say = display.say
        self.seen = Operated()

    async def run(self) -> None:
        """Raises TaurineError where the application does not answer as it should."""
        await self._fail_and_mend()
        await self._cancel()

    async def _fail_and_mend(self) -> None:
        app, source = self._stage.app, Source(file=str(self._home / "late.py"))
        handle = await self._stage.digest.enqueue(source)
        with contextlib.suppress(JobFailed):
            await handle.result(timeout=_PATIENCE)
        self.seen.failed = handle.status
        record, why = await handle.record(), await app.why(handle.id)
        message = (record.error or {}).get("message", "no error")
        self._say(
            "failing", f"{record.attempts} attempts, then {record.status}: {message.replace(str(self._home), '…')}"
        )
        self._say("why", why.sentence.replace(str(self._home), "…"))

        (letter,) = await app.dead_letters.list(job_id=handle.id)
        _mend(source)
        await app.dead_letters.redrive(letter, user="demo")
        digest = await handle.result(timeout=_PATIENCE)
        self.seen.redriven = handle.status
        self.seen.dead_letters = len(await app.dead_letters.list(job_id=handle.id, status=None))
        self._say("redrive", f"of dead letter {letter.id} ({letter.reason}), the cause being mended: {digest[:12]}…")

        again = await self._stage.digest.enqueue(source)
        self.seen.duplicate = again.duplicate and again.id == handle.id
        self._say("duplicate", f"enqueued once more: the same record, {again.status}, nothing runs")

    async def _cancel(self) -> None:
        handle = await self._stage.watch.enqueue(Watch(folder=str(self._home)))
        async with asyncio.timeout(_PATIENCE):
            await _until_running(handle)
        started = time.monotonic()
        await handle.cancel(reason="seen enough")
        with contextlib.suppress(JobCancelled):
            await handle.result(timeout=_PATIENCE)
        record = await handle.record()
        self.seen.cancelled, self.seen.looks = record.status, record.output or 0
        self._say(
            "cancel",
            f"a job that runs for ever heard of it {time.monotonic() - started:.1f} s later, in another process; "
            f"its {self.seen.looks} looks are kept",
        )


def _mend(source: Source) -> None:
    Path(source.file).write_text("print('better late')\n", "utf-8")


async def _until_running(handle: JobHandle[Any]) -> None:
    while True:
        if (await handle.record()).status == "running":
            return
        await asyncio.sleep(_LOOK)
