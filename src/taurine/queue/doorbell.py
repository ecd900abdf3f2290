"""How idle workers hear of new work: one blocking read for all queues of a process.

A queue's marker is a sorted set. Whoever makes work puts a member into it, and an idle worker pops it: score 0 means
"claim now", a time in the future means "a job is due then". Here one link blocks on the markers of all queues whose
workers are idle.

- A worker that becomes idle while the read is under way is not in it. A key of our own is in every read, and a member
put there
  ends the read, so that the next one has the newcomer too.
- A marker popped for a worker that has no use for it any more is put back, or another process would sleep on.
- Markers can be lost: a client may pop one and die. After each read that times out, one EXISTS over all idle queues
finds work
  without a marker; only then is a worker woken. Idle queues therefore cost one command each `block` seconds, however
  many there are.
- A read that never returns (a half-open connection) is cut by a time-out of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from taurine.clock import SystemClock
from taurine.errors import StoreError
from taurine.heartbeat import Heartbeat
from taurine.ids import unique_id
from taurine.pauses import Pauses
from taurine.queue.connection import Connection
from taurine.queue.keys import QueueKeys, private_key

__all__ = ["Doorbell", "put_marker", "shared_doorbell"]

log = logging.getLogger("taurine.queue")

Ring: TypeAlias = Callable[[int], bool]
"""Called with 0 for "claim now", or with the wall time in ms at which a job is due; False when it has no use for that
now.
"""


class Doorbell:
    """The blocking read of one process on one server.

    block: seconds that a read waits on the server, and with it how long work without a marker may stay unseen. Default:
    5.
    """

    def __init__(self, connection: Connection, *, prefix: str, block: float = 5.0) -> None:
        self._connection = connection
        self._block = block
        self._link = connection.link()
        # With the prefix, so that one access rule covers it and the queues.
        self._nudge_key = private_key(prefix, f"nudge:{unique_id()}")
        self._idle: dict[str, tuple[QueueKeys, list[Ring]]] = {}
        """By marker; several workers of one queue may be idle, the one that has been longest first."""
        self._reading: frozenset[str] | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._nudges: set[asyncio.Task[Any]] = set()
        self.users = 0
        self.heartbeat = Heartbeat("doorbell", SystemClock())
        self._seen_empty: dict[str, float] = {}

    def arm(self, keys: QueueKeys, ring: Ring) -> None:
        """Call `ring` once, when there may be work on this queue."""
        _, rings = self._idle.setdefault(keys.marker, (keys, []))
        if ring not in rings:
            rings.append(ring)
        if self._reading is None:
            self._changed.set()
        elif keys.marker not in self._reading:
            self._nudge()

    def disarm(self, keys: QueueKeys, ring: Ring) -> None:
        """Do not call `ring` for this queue any more."""
        _, rings = self._idle.get(keys.marker, (keys, []))
        if ring in rings:
            rings.remove(ring)
        if not rings:
            self._idle.pop(keys.marker, None)

    def saw_empty(self, keys: QueueKeys, *, within: float) -> bool:
        """True when the queue held no job that waits, is due or runs at a look in the last `within` seconds."""
        seen = self._seen_empty.get(keys.marker)
        return seen is not None and asyncio.get_running_loop().time() - seen <= within

    def start(self) -> None:
        """Begin to read."""
        self._task = asyncio.create_task(self._loop(), name="taurine doorbell")

    async def stop(self) -> None:
        """End the read, and wait until it has ended."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        try:
            await asyncio.wait({task})  # `await task` would not tell its cancellation from one of the caller
            await asyncio.gather(*self._nudges, return_exceptions=True)
        finally:
            self.heartbeat.rest()
            await self._link.close()

    def _nudge(self) -> None:
        task = asyncio.create_task(self._send_nudge(), name="taurine nudge")
        self._nudges.add(task)
        task.add_done_callback(self._nudges.discard)

    async def _send_nudge(self) -> None:
        # An outage ends the read by itself; and a nudge that nobody takes must not stay for ever.
        with contextlib.suppress(StoreError):
            await self._connection.pipeline(
                [("ZADD", self._nudge_key, 0, "0"), ("PEXPIRE", self._nudge_key, int(self._block * 4000))]
            )

    async def _loop(self) -> None:
        pauses = Pauses()
        while True:
            if not self._idle:
                self._changed.clear()
                self.heartbeat.rest()
                await self._changed.wait()
                continue
            self.heartbeat.turn(2 * self._block)
            try:
                await self._read()
                pauses.succeeded()
                continue
            except StoreError as error:
                # An idle worker has no other call that would tell of an outage; the first failure is enough.
                log.log(_level(logging.WARNING, pauses), "waiting for work: %s; it goes on trying", error)
            except Exception:
                # All idle workers of the process hear of work by this loop alone: it must not end while they live.
                log.log(_level(logging.ERROR, pauses), "waiting for work failed; it goes on trying", exc_info=True)
            await asyncio.sleep(pauses.failed())

    async def _read(self) -> None:
        markers = list(self._idle)
        self._reading = frozenset(markers)
        try:
            popped = await self._link.blocking_call(
                "BZPOPMIN", self._nudge_key, *markers, self._block, block=self._block
            )
        finally:
            self._reading = None
        if popped is None:
            await self._look_for_unmarked()
            return
        marker, member, score = popped[0].decode(), popped[1], float(popped[2])
        if marker == self._nudge_key:
            return
        if not self._ring(marker, math.floor(score)):
            await put_marker(self._connection, marker, score, member)

    def _ring(self, marker: str, due_ms: int) -> bool:
        """Call one worker that has a use for it; it takes what it can, and marks what it leaves for the next."""
        while marker in self._idle:
            keys, rings = self._idle[marker]
            ring = rings[0]
            self.disarm(keys, ring)
            if ring(due_ms):
                return True
        return False

    async def _look_for_unmarked(self) -> None:
        self.heartbeat.turn(2 * self._block)
        entries = list(self._idle.values())
        if not entries:  # the last idle worker left while the read was under way
            return
        claimable = [(keys.wait, keys.prioritized, keys.delayed) for keys, _ in entries]
        every = [key for (keys, _), line in zip(entries, claimable, strict=True) for key in (*line, keys.active)]
        found = await self._link.call("EXISTS", *every)
        now = asyncio.get_running_loop().time()
        if not found:
            self._seen_empty = {keys.marker: now for keys, _ in entries}
            return
        for (keys, _), line in zip(entries, claimable, strict=True):
            self._seen_empty.pop(keys.marker, None)
            if await self._link.call("EXISTS", *line):
                self._ring(keys.marker, 0)


async def put_marker(connection: Connection, marker: str, score: float, member: bytes = b"1") -> None:
    """Put back what was popped and is not heeded here: others would hear of the job late.

    score: 0 for "claim now", or when a job is due, wall ms. member: default, that of due jobs.
    """
    # One that came meanwhile stays, unless it is later: the earlier due time is the one to wake at.
    await connection.call("ZADD", marker, "LT", score, member)


def _level(first: int, pauses: Pauses) -> int:
    return logging.DEBUG if pauses.current else first


# Workers that were given the same URL share one doorbell, though nothing else connects them. The table holds only doorbells in use,
# and goes with its event loop.
_doorbells: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[object, str, float], Doorbell]] = (
    WeakKeyDictionary()
)


@contextlib.asynccontextmanager
async def shared_doorbell(connection: Connection, *, prefix: str, block: float) -> AsyncGenerator[Doorbell]:
    """The doorbell of this event loop for a server, started for its first user and stopped after its last."""
    doorbells = _doorbells.setdefault(asyncio.get_running_loop(), {})
    key = (connection.identity, prefix, block)
    doorbell = doorbells.get(key)
    if doorbell is None:
        doorbell = doorbells[key] = Doorbell(connection, prefix=prefix, block=block)
        doorbell.start()
    doorbell.users += 1
    try:
        yield doorbell
    finally:
        doorbell.users -= 1
        if not doorbell.users:
            del doorbells[key]  # first: who comes while it ends has one of its own
            await doorbell.stop()
