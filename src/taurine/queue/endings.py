"""Waiting for jobs to end: one reader for all waits of a process on one queue.

A wait asks once what became of its job; the answer comes with the place at which the event stream stood at that moment,
and the reader starts from the place of the first answer. So an end is either in an answer or in the stream after it.
Waits that begin together ask together.

Two things can still hide an end, and both are looked for. A job that is removed as it ends may be gone before the
question: its end is then looked up in what the stream still holds. And the stream may be cut before it was read, or
lost with the server: all jobs that are waited for are asked about anew after each outage and every `_RECHECK` seconds.

With the end comes what else the job's runs have changed, read for all that ended together.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from taurine.errors import StoreError, StoreUnavailable
from taurine.pauses import Pauses
from taurine.queue.event_stream import Entry, EventStream
from taurine.queue.store import QueueStore

__all__ = ["Completed", "Ending", "Failed", "Gone", "ending_of"]

log = logging.getLogger("taurine.queue")

_RECHECK = 10.0
_BLOCK = 5.0

_JOBS_PER_CALL = 500

_FACTS = (b"atm", b"ats", b"stc", b"progress", b"stacktrace", b"failedReason", b"processedOn", b"finishedOn", b"pb")
"""The fields of a job that its runs change, without the result, which comes by itself."""

_LOOK_BACK_PAGE, _LOOK_BACK_PAGES = 1000, 12
"""A stream holds some 10,000 entries; one that is allowed more is not read to its end for a job that may never have
been.
"""


@dataclass(frozen=True, slots=True)
class Completed:
    """The job completed; `result` is JSON."""

    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The job failed for good."""

    reason: bytes


@dataclass(frozen=True, slots=True)
class Gone:
    """The job is not stored, and nothing tells how it ended."""


Ending: TypeAlias = Completed | Failed | Gone
Facts: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Fields of a job's hash and their values."""


async def ending_of(store: QueueStore, stored_id: str, timeout: float | None) -> tuple[Ending | None, Facts]:
    """How the job ended, once it has, and what its runs have changed; None when it has not ended within `timeout`
    seconds.

    There are no facts of a job that is stored no more, and none when the server cannot be asked for them. Raises
    StoreUnavailable or StoreRefused.
    """
    async with _shared_watch(store) as watch:
        return await watch.ending_of(stored_id, timeout)


class _Wait:
    """One caller's wait for one job."""

    __slots__ = ("asked", "done", "facts", "outcome")

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.outcome: Ending | Exception | None = None
        self.facts: Facts = ()
        self.asked = False
        """True once the server has answered about the job."""

    def settle(self, outcome: Ending | Exception, facts: Facts = ()) -> None:
        if self.outcome is None:
            self.outcome, self.facts = outcome, facts
            self.done.set()


class _Watch:
    """All waits of this event loop for jobs of one queue."""

    def __init__(self, store: QueueStore) -> None:
        self._store = store
        self._waits: dict[bytes, list[_Wait]] = {}
        self._unasked: dict[bytes, None] = {}
        self._asking: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._ended: dict[bytes, Ending] = {}
        self._telling: asyncio.Task[None] | None = None
        self.users = 0

    async def ending_of(self, stored_id: str, timeout: float | None) -> tuple[Ending | None, Facts]:
        raw_id, wait = stored_id.encode(), _Wait()
        self._waits.setdefault(raw_id, []).append(wait)
        try:
            self._ask([raw_id])
            await self._store.clock.wait(wait.done, timeout)
        finally:
            waits = self._waits[raw_id]
            waits.remove(wait)
            if not waits:
                del self._waits[raw_id]
        if isinstance(wait.outcome, Exception):
            raise wait.outcome
        return wait.outcome, wait.facts

    async def stop(self) -> None:
        tasks = [task for task in (self._asking, self._reading, self._telling) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _settle(self, raw_id: bytes, outcome: Ending | Exception) -> None:
        if isinstance(outcome, Completed | Failed):
            self._ended[raw_id] = outcome
            if self._telling is None:
                self._telling = asyncio.create_task(self._tell_all(), name="taurine tell endings")
            return
        for wait in self._waits.get(raw_id, ()):
            wait.settle(outcome)

    async def _tell_all(self) -> None:
        try:
            while self._ended:
                ended = dict(itertools.islice(self._ended.items(), _JOBS_PER_CALL))
                facts = await self._read_facts(ended)
                for raw_id, outcome in ended.items():
                    del self._ended[raw_id]
                    for wait in self._waits.get(raw_id, ()):
                        wait.settle(outcome, facts.get(raw_id, ()))
        finally:
            self._telling = None

    async def _read_facts(self, raw_ids: Collection[bytes]) -> dict[bytes, Facts]:
        base = self._store.keys.base.encode()
        try:
            replies: list[list[bytes | None]] = await self._store.connection.pipeline(
                [("HMGET", base + raw_id, *_FACTS) for raw_id in raw_ids]
            )
        except StoreError:
            return {}  # the ends are known, and an outage is no reason to hide them
        return {
            raw_id: [(field, value) for field, value in zip(_FACTS, values, strict=True) if value is not None]
            for raw_id, values in zip(raw_ids, replies, strict=True)
        }

    # Asking ---------------------------------------------------------------------------------------------------------------------

    def _ask(self, raw_ids: Iterable[bytes]) -> None:
        self._unasked.update(dict.fromkeys(raw_ids))
        if self._asking is None and self._unasked:
            self._asking = asyncio.create_task(self._ask_all(), name="taurine ask for endings")

    async def _ask_all(self) -> None:
        """One question at a time, so that the reader starts from the place of the earliest answer."""
        try:
            while self._unasked:
                raw_ids = list(self._unasked)[:_JOBS_PER_CALL]
                for raw_id in raw_ids:
                    del self._unasked[raw_id]
                try:
                    await self._ask_about(raw_ids)
                except Exception as error:  # noqa: BLE001 - who waits is told
                    # Who has had an answer waits on: the reader asks again when the server is back.
                    for wait in (wait for raw_id in raw_ids for wait in self._waits.get(raw_id, ()) if not wait.asked):
                        wait.settle(error)
        finally:
            self._asking = None

    async def _ask_about(self, raw_ids: Sequence[bytes]) -> None:
        asked = [(raw_id, wait) for raw_id in raw_ids for wait in self._waits.get(raw_id, ())]
        last, endings = await self._store.run("endings", *raw_ids)
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_from(last.decode()), name="taurine read endings")
        missing: set[bytes] = set()
        for raw_id, ending in zip(raw_ids, endings, strict=True):
            if ending == -1:
                missing.add(raw_id)
            elif ending != 0:
                self._settle(raw_id, _ending(*ending))
        if missing:
            await self._look_back(missing)
        for _, wait in asked:
            wait.asked = True

    async def _look_back(self, missing: set[bytes]) -> None:
        """Find the ends of jobs that are stored no more; newest first, since an id may have been used before."""
        before = "+"
        for _ in range(_LOOK_BACK_PAGES):
            entries: list[Entry] = await self._store.connection.call(
                "XREVRANGE", self._store.keys.events, before, "-", "COUNT", _LOOK_BACK_PAGE
            )
            for _, fields in entries:
                raw_id = _value(fields, b"jobId")
                if raw_id in missing and fields[1] != b"retries-exhausted":
                    missing.discard(raw_id)
                    self._settle(raw_id, _ending_in(fields) or Gone())
            if not missing or len(entries) < _LOOK_BACK_PAGE:
                break
            before = f"({entries[-1][0].decode()}"
        for raw_id in missing:
            self._settle(raw_id, Gone())

    # Reading --------------------------------------------------------------------------------------------------------------------

    async def _read_from(self, position: str) -> None:
        clock = self._store.clock
        stream = EventStream(self._store.connection, self._store.keys, position=position, block=_BLOCK)
        checked_at: float | None = clock.monotonic()
        pauses = Pauses()
        try:
            while True:
                try:
                    await stream.open()
                    if checked_at is None or clock.monotonic() - checked_at >= _RECHECK:
                        checked_at = clock.monotonic()
                        self._ask(self._waits)
                    entries = await stream.read()
                except StoreUnavailable as error:
                    log.debug("waiting for jobs of %s: %s", self._store.keys.name, error)
                    checked_at = None
                    await asyncio.sleep(pauses.failed())
                    continue
                pauses.succeeded()
                for _, fields in entries:
                    self._hear(fields)
        except Exception as error:  # noqa: BLE001 - who waits is told
            for raw_id in self._waits:
                self._settle(raw_id, error)
        finally:
            self._reading = None  # who waits from now on starts another
            await stream.close()

    def _hear(self, fields: Sequence[bytes]) -> None:
        # Most entries are about something else: nothing is taken apart before that is known.
        if fields[1] not in (b"completed", b"failed", b"removed"):
            return
        raw_id = _value(fields, b"jobId")
        if raw_id in self._waits:
            self._settle(raw_id, _ending_in(fields) or Gone())


def _value(fields: Sequence[bytes], name: bytes) -> bytes:
    # Names are at even places; a value that looks like a name is not one.
    for at in range(0, len(fields) - 1, 2):
        if fields[at] == name:
            return fields[at + 1]
    return b""


def _ending_in(fields: Sequence[bytes]) -> Ending | None:
    if fields[1] == b"completed":
        return Completed(_value(fields, b"returnvalue") or b"null")
    return Failed(_value(fields, b"failedReason")) if fields[1] == b"failed" else None


def _ending(kind: int, value: bytes) -> Ending:
    return Completed(value) if kind == 1 else Failed(value)


_Watches: TypeAlias = dict[tuple[Any, str], _Watch]

# Waits that were given the same server and queue share one reader, though nothing else connects them. The table holds only those in use, and
# goes with its event loop.
_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watches] = WeakKeyDictionary()


@contextlib.asynccontextmanager
async def _shared_watch(store: QueueStore) -> AsyncGenerator[_Watch]:
    watches = _watches.setdefault(asyncio.get_running_loop(), {})
    key = (store.connection.identity, store.keys.qualified)
    watch = watches.get(key)
    if watch is None:
        watch = watches[key] = _Watch(store)
    watch.users += 1
    try:
        yield watch
    finally:
        watch.users -= 1
        if not watch.users:
            watches.pop(key, None)
            await watch.stop()
