"""What stands in for the servers while a test looks at what is enqueued; `taurine.testing` has the one that there is.

Which of several is asked follows the context that code runs in: tasks and `asyncio.to_thread` inherit it, so that tests
that run at the same time do not see one another's jobs. A thread that was started without a context belongs to the only
one that is active. Where there are several nobody knows which, and guessing would let one test's job into another, so
that is an error; nothing ever falls through to the servers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from threading import Lock
from typing import Protocol, TypeVar

from taurine.clock import Clock
from taurine.errors import InvalidOption
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.requests import EnqueueOptions
from taurine.jobs.enqueue.access import Authorize
from taurine.jobs.enqueue.checking import Checks
from taurine.jobs.enqueue.enqueuer import Recording
from taurine.jobs.enqueue.handle import JobHandle
from taurine.ledger.records import JobRecord

__all__ = ["Accepting", "StandIn", "StandIns"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class Accepting(Protocol):
    """What accepts jobs, see `Enqueuer`."""

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]: ...

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]: ...

    async def prepared(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> Recording[ResultT]: ...

    async def prepared_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> Recording[ResultT]: ...


class StandIn(Accepting, Protocol):
    """Accepts jobs and knows their records, without a server."""

    async def get(self, job_id: str) -> JobRecord | None: ...

    async def wait(self, job_id: str, timeout: float | None, *, tenant: str | None) -> JobRecord | None: ...

    async def cancel(self, job_id: str, *, reason: str, user: str | None, tenant: str | None) -> JobRecord: ...


_here: ContextVar[tuple[StandIn, ...]] = ContextVar("taurine_stand_ins", default=())
"""Those that this context has taken, of all applications, the latest last."""


class StandIns:
    """Those of one application, and what they are made of.

    checks: as its own enqueues are checked. authorize, clock: its own.
    """

    def __init__(self, *, checks: Checks, authorize: Authorize | None, clock: Clock) -> None:
        self.checks = checks
        self.authorize = authorize
        self.clock = clock
        self._active: tuple[StandIn, ...] = ()
        self._lock = Lock()

    def add(self, stand_in: StandIn) -> None:
        """Let it stand in, in this context and in what inherits it, until it is removed."""
        with self._lock:
            self._active = (*self._active, stand_in)
        _here.set((*_here.get(), stand_in))

    def remove(self, stand_in: StandIn) -> None:
        """From now on it is not asked, wherever it was inherited. Harmless when repeated."""
        with self._lock:
            self._active = tuple(one for one in self._active if one is not stand_in)
        # Not by a token: a fixture may end in another context than it began in.
        _here.set(tuple(one for one in _here.get() if one is not stand_in))

    def here(self) -> StandIn | None:
        """The one to ask in this context, or None when none is active.

        Raises InvalidOption when several are, and this context belongs to none.
        """
        active = self._active
        if not active:
            return None
        for stand_in in reversed(_here.get()):
            if any(one is stand_in for one in active):
                return stand_in
        if len(active) == 1:
            return active[0]
        raise InvalidOption(
            f"{len(active)} recorders stand in for this application, and this thread was started in the context of none; "
            "start it with asyncio.to_thread, or with contextvars.copy_context().run"
        )

    def refuse(self, operation: str) -> None:
        """Raise InvalidOption where one stands in: it has no such operation, and what the servers hold is not what the
        test has recorded.
        """
        if self.here() is not None:
            raise InvalidOption(
                f"app.{operation} asks the servers, and a Recorder stands in for them here: it answers app.get, app.wait, app.cancel and handles alone; "
                f"look at recorder.jobs, or test app.{operation} with an application on real servers, see taurine.testing.drain"
            )
