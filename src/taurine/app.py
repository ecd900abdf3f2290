"""Taurine: the application. It composes the parts below it, and they do not know it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random, SystemRandom
from threading import Lock
from typing import Any, Self, TypeVar, Unpack, cast
from weakref import WeakKeyDictionary

from anyio.from_thread import BlockingPortal, start_blocking_portal
from sqlalchemy.orm import Session

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption
from taurine.jobs.access import AccessRequest, Authorize, authorized
from taurine.jobs.alerts import Alerts, OnAlert
from taurine.jobs.backend import Backend
from taurine.jobs.catalog import Catalog
from taurine.jobs.declaring import JobOptions, JobTypeOptions
from taurine.jobs.handle import JobHandle
from taurine.jobs.job_type import JobDecorator, JobType, annotations_of
from taurine.jobs.requests import EnqueueOptions
from taurine.jobs.worker import Concurrency, JobWorker
from taurine.ledger.migrate import MigrationReport, migrate
from taurine.ledger.records import JobRecord
from taurine.options import RateLimit, Seconds
from taurine.settings import Environment, LogFormat, Settings

__all__ = ["Taurine"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class Taurine:
    """One application: its catalog of job types, its records, its workers.

    name: what it is called in logs and dashboards. The settings (redis_url to log_format) default to the environment's, see `Settings`;
    with none at all an embedded Valkey and SQLite in `.taurine/` are used.
    deps: what handlers find as `ctx.deps`. Default: None.
    authorize: asked before each enqueue and each change; see `AccessRequest`. Default: everything is allowed.
    on_alert: told what operators must hear of at once; see `Alert`. Default: the log only.
    default_queue: where job types go that name no queue. Default: "jobs".
    clock, random: time and randomness. Default: the machine's.

    Nothing is opened before the first call that needs it. As an async context manager it hands over, in the background, what could not be handed over at once, and closes
    everything at the end. Raises InvalidOption for a setting that is out of range.
    """

    def __init__(
        self,
        name: str,
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        home: str | Path | None = None,
        prefix: str | None = None,
        concurrency: int | None = None,
        lease: Seconds | None = None,
        env: Environment | None = None,
        cron_secret: str | None = None,
        log_format: LogFormat | None = None,
        deps: Any = None,
        authorize: Authorize | None = None,
        on_alert: OnAlert | None = None,
        default_queue: str = "jobs",
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        if not name or not name.isprintable():
            raise InvalidOption(f"expected the application's name to be printable text, got {name!r:.80}")
        self.name = name
        self.settings = Settings.read(
            redis_url=redis_url,
            database_url=database_url,
            home=home,
            prefix=prefix,
            concurrency=concurrency,
            lease=lease,
            env=env,
            cron_secret=cron_secret,
            log_format=log_format,
        )
        self.catalog = Catalog()
        self._deps = deps
        self._authorize = authorize
        self._alerts = Alerts(on_alert)
        self._default_queue = default_queue
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._backends: WeakKeyDictionary[asyncio.AbstractEventLoop, Backend] = WeakKeyDictionary()
        self._portal: BlockingPortal | None = None
        self._portal_exit = ExitStack()
        self._portal_lock = Lock()

    def __repr__(self) -> str:
        return f"Taurine({self.name!r}, {len(self.catalog)} job types)"

    # Declaring ----------------------------------------------------------------------------------------------------------------------

    def job(self, name: str, **options: Unpack[JobTypeOptions]) -> JobDecorator:
        """Decorator: declare a job type with the function that runs it, async or not. The payload's and the result's types are read from it.

        name: what the type is called everywhere, for example "email.send-invite". options: see JobTypeOptions.
        Raises CatalogError, AlreadyDeclared, InvalidOption, InvalidName: at import, not at the first enqueue.
        """
        rules = JobOptions.made(options, default_queue=self._default_queue)
        local_names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] - for models that are declared in a function

        def decorate(function: Callable[..., Any]) -> JobType[Any, Any]:
            payload, result = annotations_of(function, name, local_names)
            return self._add(name, payload, result, rules, function)

        return cast("JobDecorator", decorate)

    def declare(
        self,
        name: str,
        payload: type[PayloadT],
        result: type[ResultT] | None = None,
        **options: Unpack[JobTypeOptions],
    ) -> JobType[PayloadT, ResultT]:
        """Declare a job type without its handler, for processes that only enqueue; `@declared.handler` attaches it in the worker.

        payload, result: their types; a result that is left out may be anything. options and errors as in `job`.
        """
        rules = JobOptions.made(options, default_queue=self._default_queue)
        return self._add(name, payload, Any if result is None else result, rules, None)

    def _add(
        self, name: str, payload: Any, result: Any, options: JobOptions, handler: Callable[..., Any] | None
    ) -> JobType[Any, Any]:
        job_type = JobType[Any, Any](
            name, payload=payload, result=result, options=options, producer=self, handler=handler
        )
        self.catalog.add(job_type)
        return job_type

    # Enqueueing: the port of job types ----------------------------------------------------------------------------------------------

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue`."""
        backend = await self._ready()
        return await backend.enqueuer.enqueue(job_type, payload, options)

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many`."""
        backend = await self._ready()
        return await backend.enqueuer.enqueue_many(job_type, payloads, options)

    def enqueue_sync(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]:
        """See `JobType.enqueue_sync`."""
        session = options.get("session")
        if isinstance(session, Session):
            return self._enqueue_in_session(job_type, [payload], options, session)[0]
        return self._call(self.enqueue, job_type, payload, options)

    def enqueue_many_sync(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]:
        """See `JobType.enqueue_many_sync`."""
        session = options.get("session")
        if isinstance(session, Session):
            return self._enqueue_in_session(job_type, payloads, options, session)
        return self._call(self.enqueue_many, job_type, payloads, options)

    def _enqueue_in_session(
        self, job_type: JobType[Any, ResultT], payloads: Sequence[Any], options: EnqueueOptions, session: Session
    ) -> list[JobHandle[ResultT]]:
        """A session belongs to the caller's thread: what is written through it is written there."""

        async def check() -> tuple[Backend, asyncio.AbstractEventLoop, list[Any]]:
            backend = await self._ready()
            records = [await backend.enqueuer.checked(job_type, payload, options) for payload in payloads]
            return backend, asyncio.get_running_loop(), records

        backend, loop, records = self._call(check)
        answers = backend.enqueuer.record_in(session, records, loop)
        return [
            backend.enqueuer.handle(job_type, record, answer, options)
            for record, answer in zip(records, answers, strict=True)
        ]

    # Records ------------------------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobRecord | None:
        """The record of a job, or None. Raises LedgerUnavailable."""
        return await self._backend().get(job_id)

    async def wait(self, job_id: str, timeout: float | None = None) -> JobRecord | None:
        """The record once the job has ended; the latest one when `timeout` seconds have passed before, None if there is none."""
        backend = await self._ready()
        return await backend.watch.wait(job_id, timeout)

    def wait_sync(self, job_id: str, timeout: float | None = None) -> JobRecord | None:
        """`wait` for code without an event loop."""
        return self._call(self.wait, job_id, timeout)

    async def cancel(self, job_id: str, *, reason: str = "cancelled", user: str | None = None) -> JobRecord:
        """Cancel a job, wherever it is: one that has not started never will; a running one hears of it within a second, in any process.

        Returns the record: `cancelled`, or still `running` with the request noted. user: who asks for it.
        Raises RecordNotFound, TransitionRefused for a job that has ended, NotAuthorized, LedgerUnavailable.
        """
        backend = await self._ready()
        await self._allow("cancel", job_id, user)
        return await backend.cancel(job_id, reason=reason, user=user)

    async def _allow(self, action: str, job_id: str, user: str | None) -> None:
        if self._authorize is None:
            return
        record = await self.get(job_id)
        if record is not None:
            request = AccessRequest(action=action, job_type=record.type, tenant=record.tenant, user=user)
            await authorized(self._authorize, request)

    # Working ------------------------------------------------------------------------------------------------------------------------

    def worker(
        self,
        *,
        queues: Sequence[str] | None = None,
        concurrency: Concurrency | None = None,
        rate_limits: Mapping[str, RateLimit] | None = None,
        lease: Seconds | None = None,
        max_crashes: int = 3,
        stalled_interval: Seconds = 30.0,
        grace: Seconds = 30.0,
        deps: Any = None,
        name: str | None = None,
    ) -> JobWorker:
        """A worker: `await worker.run()`, or `async with app.worker():` to have it in the background.

        queues: those that it works on. Default: all that have a handler in this process. concurrency: jobs at once of each queue, or a mapping by queue.
        Default: the setting. rate_limits: job starts per window, by queue, over all workers. Default: none.
        lease: seconds that a claimed job stays its own without renewal. Default: the setting.
        max_crashes: a job whose worker died so often is dead. Default: 3. stalled_interval: seconds between looks for jobs whose worker is gone. Default: 30.
        grace: seconds that running jobs may take when it stops. Default: 30. deps: what its handlers find as `ctx.deps`. Default: the application's.
        name: shown with jobs that it ran. Default: made of host and process.

        Made on the event loop that it runs on. Raises InvalidOption for a queue that no job type goes to, and when there is no handler at all.
        """
        return JobWorker(
            backend=self._backend(),
            queues=queues,
            concurrency=concurrency,
            rate_limits=rate_limits,
            lease=lease,
            max_crashes=max_crashes,
            stalled_interval=stalled_interval,
            grace=grace,
            services=(),
            alerts=self._alerts,
            deps=self._deps if deps is None else deps,
            name=name,
        )

    async def migrate(self) -> MigrationReport:
        """Bring the ledger's tables to this version's; safe to repeat, and in several processes at once."""
        return await migrate(self._backend().database)

    # Opening and closing --------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close what this event loop, and the calls for code without one, have opened."""
        backend = self._backends.pop(asyncio.get_running_loop(), None)
        if backend is not None:
            await backend.close()
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close what the calls for code without an event loop have opened."""
        with self._portal_lock:
            portal, self._portal = self._portal, None
            if portal is not None:
                portal.call(self._close_loop)
                self._portal_exit.close()

    async def _close_loop(self) -> None:
        backend = self._backends.pop(asyncio.get_running_loop(), None)
        if backend is not None:
            await backend.close()

    async def __aenter__(self) -> Self:
        backend = await self._ready()
        backend.outbox.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _backend(self) -> Backend:
        """What is open on this event loop."""
        loop = asyncio.get_running_loop()
        backend = self._backends.get(loop)
        if backend is None:
            backend = self._backends[loop] = Backend(
                settings=self.settings,
                catalog=self.catalog,
                records=self,
                authorize=self._authorize,
                clock=self._clock,
                random=self._random,
            )
        return backend

    async def _ready(self) -> Backend:
        backend = self._backend()
        await backend.ready()
        return backend

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run async code for a caller without an event loop, on a loop in a thread of its own."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            raise InvalidOption("this call would block the event loop; use the one without _sync, with await")
        with self._portal_lock:
            if self._portal is None:
                self._portal = self._portal_exit.enter_context(start_blocking_portal("asyncio"))
        return self._portal.call(function, *arguments)
