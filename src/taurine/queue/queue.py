"""The queue: adding jobs, looking at them, and running the queue's affairs.

A Queue opens nothing until its first call, and never waits for a server that is down: a call fails in bounded time with StoreUnavailable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self, Unpack

from taurine.clock import Clock, SystemClock
from taurine.options import AddOptions
from taurine.queue.adding import Added, Adder, NewJob, new_job
from taurine.queue.connection import Connection, Target
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.store import QueueStore

__all__ = ["Queue"]


class Queue:
    """A named queue on one server.

    name: any printable text without a colon. target: a URL, a ready `redis.asyncio.Redis`, or a Connection.
    prefix: what the queue's keys start with; the same on all sides. Default: "bull".
    defaults: options for every job that does not give its own.

    Raises InvalidName or InvalidOption. An async context manager that closes at its end.
    """

    def __init__(
        self,
        name: str,
        target: Target,
        *,
        prefix: str = "bull",
        defaults: AddOptions | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._store = QueueStore(QueueKeys(name, prefix), Connection.to(target), clock or SystemClock())
        self._owns_connection = not isinstance(target, Connection)
        self._defaults: AddOptions = defaults or {}
        self._adder = Adder(self._store)

    @property
    def name(self) -> str:
        return self._store.keys.name

    @property
    def prefix(self) -> str:
        return self._store.keys.prefix

    # Adding -------------------------------------------------------------------------------------------------------------------

    async def add(self, name: str, data: Any = None, **options: Unpack[AddOptions]) -> Job:
        """Store a job and put it where it is to wait; atomic.

        data: anything that JSON holds; None is stored as {}. options: see AddOptions.
        Returns the job. If its id, or its deduplication id, is taken, nothing is stored: the job in the way is returned, with `duplicate` set.

        Concurrent calls share script calls and keep their order. Repeating a call that raised StoreUnavailable is safe with a `job_id`; without
        one the job may be there twice.

        Raises InvalidOption, InvalidName, PayloadError, PayloadTooLarge, ParentNotFound, ParentNotReplaceable, StoreUnavailable, StoreRefused.
        """
        job = self._new_job(name, data, options)
        return self._stored(job, await self._adder.add(job))

    async def add_many(self, jobs: Iterable[tuple[str, Any] | tuple[str, Any, AddOptions]]) -> list[Job]:
        """Store many jobs: `(name, data)` or `(name, data, options)` each.

        All are checked before any is sent. Up to 1,000 jobs are stored whole or not at all; a longer list goes in such slices, in order.
        Raises as `add` does.
        """
        new = [self._new_job(entry[0], entry[1], entry[2] if len(entry) == 3 else {}) for entry in jobs]
        if not new:
            return []
        return [self._stored(job, added) for job, added in zip(new, await self._adder.add_many(new), strict=True)]

    def _new_job(self, name: str, data: Any, options: Mapping[str, Any]) -> NewJob:
        merged = {**self._defaults, **options} if options else self._defaults
        return new_job(self._store, name, data, merged)

    def _stored(self, job: NewJob, added: Added) -> Job:
        stored = Job(self._store, added.stored_id, job.name, job.data, job.opts_text, job.timestamp, job.delay_ms, job.priority)
        stored.duplicate = added.duplicate
        return stored

    # Life ---------------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the queue's connections. Safe to call twice."""
        if self._owns_connection:
            await self._store.connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
