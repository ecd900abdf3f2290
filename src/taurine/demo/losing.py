"""The third act: the server of queues loses everything, with accepted jobs in it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

from taurine.demo.display import Display
from taurine.demo.stage import Source, Stage
from taurine.demo.verdict import Lost
from taurine.queue import Connection, Queue

__all__ = ["Losing"]

_PATIENCE = 30.0

_JOBS = 200
"""As many files are taken at most."""


class Losing:
    """The third act. connection: to the demo's own server, whose data is removed."""

    def __init__(self, stage: Stage, connection: Connection, root: Path, display: Display) -> None:
        self._stage = stage
        self._connection = connection
        self._root = root
        self._say = display.say
        self.seen = Lost()

    async def run(self, files: Sequence[str]) -> None:
        """Raises TaurineError; WaitTimeout when a job is not put back."""
        digest, chosen = self._stage.digest, files[:_JOBS]
        async with Queue(digest.queue, self._connection, prefix=self._stage.app.settings.prefix) as queue:
            await queue.pause()
        handles = await digest.enqueue_many([Source(file=file) for file in chosen])
        why = await self._stage.app.why(handles[-1].id)
        self._say("why", f"{handles[-1].id}: {why.sentence}")
        counts = await self._stage.app.counts(queue=digest.queue)
        self.seen.open = counts["queued"].number

        await self._connection.call("FLUSHALL")
        started = time.monotonic()
        self._say("flushall", f"the server has lost everything, {self.seen.open:,} accepted jobs and the pause too")
        results = await asyncio.gather(*(handle.result(timeout=_PATIENCE) for handle in handles))
        self.seen.digests = dict(zip(chosen, results, strict=True))
        self._say("restored", f"all put back from the ledger and completed after {time.monotonic() - started:.1f} s")
        self.seen.plain = {file: hashlib.sha256((self._root / file).read_bytes()).hexdigest() for file in chosen}
