"""One listener: what it listens to, what it has been told, and the bounded line of what waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from taurine.errors import InvalidOption, StreamDropped
from taurine.ledger.changes import Version
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import TERMINAL

__all__ = ["Change", "Place", "Subscription", "Topic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """What is listened to: one job, the jobs of a tag, or all of a tenant.

    tenant beside another one: other tenants' jobs are none of it.
    """

    job_id: str | None = None
    tag: str | None = None
    tenant: str | None = None

    def has(self, record: JobRecord) -> bool:
        """Whether a record belongs to it."""
        return (
            (self.job_id is None or record.id == self.job_id)
            and (self.tenant is None or record.tenant == self.tenant)
            and (self.tag is None or self.tag in record.tags)
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the order of changes, as text `<ms>-<mark>`: the same in all processes."""

    ms: int
    mark: int

    @classmethod
    def of(cls, version: Version) -> Place:
        """Where a version stands."""
        return cls(version.updated_at, version.mark)

    @classmethod
    def read(cls, text: str) -> Place:
        """The place that `str` made text of. Raises InvalidOption."""
        ms, dash, mark = text.partition("-")
        if dash and 0 < len(ms) <= 15 and ms.isascii() and ms.isdecimal() and len(mark) == 8:
            try:
                return cls(int(ms), int(mark, 16))
            except ValueError:
                pass
        raise InvalidOption(f"expected the position of a change, such as 1763800000000-0a1b2c3d, got {text!r:.80}")

    def __str__(self) -> str:
        return f"{self.ms}-{self.mark:08x}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A job is other than before: `record` is what it is now. position: from where one may go on listening.

    record is None when too much has changed since the position that was given to tell one by one: read the list again,
    then go on.
    """

    position: str
    record: JobRecord | None


class Subscription:
    """An async iterator of changes, of one listener. A newer change of a job takes the place of one that still waits.

    follow: of one job, go on after it has ended, since it may be run again. buffer: jobs whose change may wait.
    """

    def __init__(
        self, topic: Topic, *, after: Place | None, follow: bool, buffer: int, closed: Callable[[Subscription], None]
    ) -> None:
        self.topic = topic
        self.after = after
        """Where it has got to; None for a listener who begins now."""
        self.ends_with_job = topic.job_id is not None and not follow
        self.buffer = buffer
        self._closed_by = closed
        self._waiting: dict[str, Change] = {}
        self._filled = asyncio.Event()
        self._over = False
        self._dropped: StreamDropped | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is told any more."""
        return self._over

    def tell(self, version: Version, record: JobRecord) -> None:
        """Hand over a change. Who has not read so many others is dropped."""
        self.after = Place.of(version)
        self._put(record.id, Change(position=str(self.after), record=record))
        if self.ends_with_job and record.status in TERMINAL:
            self.end()

    def tell_to_begin_anew(self, place: Place) -> None:
        """Say that not everything is told one by one."""
        self.after = place
        self._waiting.clear()
        self._put("", Change(position=str(place), record=None))

    def end(self, reason: str | None = None) -> None:
        """Nothing comes after what waits. reason: why it is cut short; None for an end in good order."""
        self._over = True
        if reason is not None:
            self._dropped = StreamDropped(f"the stream is ended: {reason}")
        self._filled.set()
        self._closed_by(self)

    def close(self) -> None:
        """The listener has gone."""
        self._waiting.clear()
        self.end()

    def _put(self, job_id: str, change: Change) -> None:
        if self._over:
            return  # who was dropped goes on from what it has read: nothing behind a gap may reach it
        self._waiting.pop(job_id, None)
        if len(self._waiting) >= self.buffer:
            self._waiting.clear()
            self.end(f"{self.buffer} changes waited to be read; go on after the last one that was")
            return
        self._waiting[job_id] = change
        self._filled.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        """The next change. Raises StreamDropped when this listener was too slow, or the application was closed."""
        while not self._waiting:
            if self._dropped is not None:
                raise self._dropped
            if self._over:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        return self._waiting.pop(next(iter(self._waiting)))
