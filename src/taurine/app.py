"""Taurine: the application. It composes the parts below it, and they do not know it."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from threading import Lock
from typing import Any, Self, TypeVar, Unpack, cast, overload

from sqlalchemy.orm import Session

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption, LedgerError, RecordNotFound
from taurine.jobs.backend import Backend
from taurine.jobs.catalog.catalog import Catalog, warn_of_vague_name
from taurine.jobs.catalog.declaring import JobOptions, JobTypeOptions
from taurine.jobs.catalog.job_type import JobDecorator, JobType
from taurine.jobs.catalog.queues import OnVanished, QueueRules
from taurine.jobs.catalog.requests import AnySession, EnqueueOptions, Request
from taurine.jobs.catalog.signatures import annotations_of
from taurine.jobs.enqueue.access import AccessRequest, Authorize, authorized
from taurine.jobs.enqueue.enqueuer import Enqueuer
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.enqueue.joining import plain_session
from taurine.jobs.loop_thread import LoopThread
from taurine.jobs.operations.dead_letters import DeadLetterDepth, DeadLetters
from taurine.jobs.operations.mirror import DeadLetterMirror, mirror_queues
from taurine.jobs.operations.operating import Operations
from taurine.jobs.operations.paging import Listing
from taurine.jobs.operations.why import Inquiry, Why
from taurine.jobs.reconciler.comparing import Divergence, compare
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.alerts import Alerts, OnAlert
from taurine.jobs.reporting.lines import log
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.worker.import_path import import_path_of
from taurine.jobs.worker.options import WorkerOptions, WorkerRules
from taurine.jobs.worker.processes import WorkerProcesses
from taurine.jobs.worker.worker import JobWorker
from taurine.ledger.attempts import Attempt
from taurine.ledger.audit import AuditEntry
from taurine.ledger.job_logs import NumberedLine
from taurine.ledger.listing import Count, RecordFilter
from taurine.ledger.migrate import MigrationReport, migrate
from taurine.ledger.quotas import Quota
from taurine.ledger.records import JobRecord, NewRecord
from taurine.ledger.statuses import Phase, Status
from taurine.options import RateLimit, Seconds, require_count
from taurine.queue.stored_options import timestamp_ms
from taurine.service import Service
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
    on_alert: told what operators must hear of at once, one alert after the other; see `Alert`. A plain function is called in a thread. Default: the log only.
    redact: what log lines, and errors that are kept with records, must not show. Default: obvious secrets and e-mail addresses; `Redact.NONE` hides nothing.
    default_queue: where job types go that name no queue. Default: "jobs".
    dead_letter_limit: open dead letters of one queue above which a worker raises the alert "dead_letters_depth"; None for never. Default: 100.
    import_path: where worker processes find it, as "module:name". Default: looked for in the module that makes it, and in the program's own.
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
        redact: Redact = Redact.DEFAULT,
        default_queue: str = "jobs",
        dead_letter_limit: int | None = 100,
        import_path: str | None = None,
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
        self._on_alert = on_alert
        self._redact = redact
        self._default_queue = default_queue
        self._dead_letter_limit = (
            None if dead_letter_limit is None else require_count(dead_letter_limit, "dead_letter_limit", minimum=0)
        )
        self._import_path = import_path
        self._made_in = str(sys._getframe(1).f_globals.get("__name__"))  # pyright: ignore[reportPrivateUsage] - as the logging module does
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        self._backends: dict[asyncio.AbstractEventLoop, Backend] = {}
        self._loop_thread: LoopThread | None = None
        self._loop_thread_lock = Lock()

    def __repr__(self) -> str:
        return f"Taurine({self.name!r}, {len(self.catalog)} job types)"

    @property
    def deps(self) -> Any:
        """What handlers find as `ctx.deps`."""
        return self._deps

    # Declaring ----------------------------------------------------------------------------------------------------------------------

    def job(self, name: str, **options: Unpack[JobTypeOptions]) -> JobDecorator:
        """Decorator: declare a job type with the function that runs it, async or not. The payload's and the result's types are read from it.

        name: what the type is called everywhere, for example "email.send-invite". options: see JobTypeOptions.
        Raises CatalogError, AlreadyDeclared, InvalidOption, InvalidName: at import, not at the first enqueue. Warns of a name that says nothing.
        """
        warn_of_vague_name(name)
        rules = JobOptions.made(options, default_queue=self._default_queue)
        local_names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] - for models that are declared in a function

        def decorate(function: Callable[..., Any]) -> JobType[Any, Any]:
            payload, result = annotations_of(function, name, local_names)
            return self._add(name, payload, result, rules, function)

        return cast("JobDecorator", decorate)

    @overload
    def declare(
        self, name: str, payload: type[PayloadT], **options: Unpack[JobTypeOptions]
    ) -> JobType[PayloadT, Any]: ...
    @overload
    def declare(
        self, name: str, payload: type[PayloadT], result: type[ResultT], **options: Unpack[JobTypeOptions]
    ) -> JobType[PayloadT, ResultT]: ...
    def declare(
        self, name: str, payload: Any, result: Any = Any, **options: Unpack[JobTypeOptions]
    ) -> JobType[Any, Any]:
        """Declare a job type without its handler, for processes that only enqueue; `@declared.handler` attaches it in the worker.

        payload, result: their types; a result that is left out may be anything. options, errors and warning as in `job`.
        """
        warn_of_vague_name(name)
        rules = JobOptions.made(options, default_queue=self._default_queue)
        return self._add(name, payload, result, rules, None)

    def queue(
        self,
        name: str,
        *,
        shared: bool = False,
        on_vanished: OnVanished = "restore",
        rate_limit: RateLimit | None = None,
        concurrency: int | None = None,
        dead_letter_queue: bool | str = False,
    ) -> None:
        """Declare what holds for a queue; one of which nothing special holds need not be declared.

        shared: others use it too, such as BullMQ on Node. The jobs that they add are adopted into records, if their type is declared here and goes to this queue; the
        ends that their workers bring about are written into the records. Ended jobs are kept in the queue by age alone, at most 24 hours where no age is declared.
        Default: False; a job without a record is refused then.
        on_vanished: what becomes of an open job that the queue no longer has, and that is not known to have been removed by hand. "restore": it is put back, since the
        server has lost it; so are jobs that were taken out by BullMQ's drain, clean or obliterate. "cancel": its record is cancelled. Default: "restore".
        A job that is removed alone (`Queue.remove`, a dashboard) is cancelled in any case, as long as the queue's event stream tells of it.
        rate_limit, concurrency: job starts per window, and most jobs at once, over all workers. Set when nothing else is set, also after the server has lost its data.
        Default: none. A pause is not declared: one that the server has lost is over.
        dead_letter_queue: a BullMQ queue that gets a copy of each open dead letter, for dashboards that know nothing of the ledger: its name, or True for `<name>-dlq`.
        Nobody works on the copies, and one goes away when its entry was dealt with. Default: none.

        Raises InvalidOption, InvalidName, and AlreadyDeclared for a queue that has other rules.
        """
        self.catalog.add_queue(
            QueueRules(
                name=name,
                shared=shared,
                on_vanished=on_vanished,
                rate_limit=rate_limit,
                concurrency=concurrency,
                dead_letter_queue=dead_letter_queue,
            )
        )

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
        self, job_type: JobType[PayloadT, ResultT] | str, payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]:
        """`JobType.enqueue` of a type, or of the type of a name. Raises UnknownJobType, with the near miss, and what that raises."""
        declared = self._declared(job_type)
        backend = await self._ready()
        return await backend.enqueuer.enqueue(declared, payload, options)

    async def enqueue_many(
        self,
        job_type: JobType[PayloadT, ResultT] | str,
        payloads: Sequence[PayloadT],
        **options: Unpack[EnqueueOptions],
    ) -> builtins.list[JobHandle[ResultT]]:
        """`JobType.enqueue_many` of a type, or of the type of a name. Raises UnknownJobType, and what that raises."""
        declared = self._declared(job_type)
        backend = await self._ready()
        return await backend.enqueuer.enqueue_many(declared, payloads, options)

    def enqueue_sync(
        self, job_type: JobType[PayloadT, ResultT] | str, payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]:
        """`enqueue` for code without an event loop."""
        declared = self._declared(job_type)
        if (session := options.get("session")) is not None:
            return self._join_sync(session, declared, Enqueuer.checked_one, payload, options)[0]
        return self._call(partial(self.enqueue, **options), declared, payload)

    def enqueue_many_sync(
        self,
        job_type: JobType[PayloadT, ResultT] | str,
        payloads: Sequence[PayloadT],
        **options: Unpack[EnqueueOptions],
    ) -> builtins.list[JobHandle[ResultT]]:
        """`enqueue_many` for code without an event loop."""
        declared = self._declared(job_type)
        if (session := options.get("session")) is not None:
            return self._join_sync(session, declared, Enqueuer.checked_many, payloads, options)
        return self._call(partial(self.enqueue_many, **options), declared, payloads)

    def _join_sync(
        self,
        given: AnySession,
        job_type: JobType[Any, ResultT],
        check: Callable[..., Any],
        payloads: Any,
        options: EnqueueOptions,
    ) -> builtins.list[JobHandle[ResultT]]:
        """A session belongs to the caller's thread: what is written through it is written there, and only the checks are made on the loop."""
        session = plain_session(given)
        if not isinstance(session, Session):
            raise InvalidOption(
                "an AsyncSession belongs to its event loop; use the call without _sync there, with await"
            )

        async def checked() -> tuple[Enqueuer, Request, builtins.list[NewRecord]]:
            enqueuer = (await self._ready()).enqueuer
            return enqueuer, *(await check(enqueuer, job_type, payloads, options))

        enqueuer, request, records = self._call(checked)
        answers = enqueuer.record_in(session, records, request)
        return [enqueuer.handle(job_type, record, answer) for record, answer in zip(records, answers, strict=True)]

    def _declared(self, job_type: JobType[PayloadT, ResultT] | str) -> JobType[PayloadT, ResultT]:
        if isinstance(job_type, str):
            return self.catalog.get(job_type)
        self.catalog.check(job_type)
        return job_type

    # Records ------------------------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str, *, tenant: str | None = None) -> JobRecord | None:
        """The record of a job, or None. It outlives what the queue keeps. tenant: a job of another tenant is None then. Raises LedgerUnavailable."""
        record = await self._backend().get(job_id)
        return None if record is None or (tenant is not None and record.tenant != tenant) else record

    async def wait(self, job_id: str, timeout: float | None = None, *, tenant: str | None = None) -> JobRecord | None:
        """The record once the job has ended; the latest one when `timeout` seconds have passed before, None if there is none.

        tenant: a job of another tenant is None then, at once. Raises LedgerUnavailable for a database that is away at the end of that time.
        """
        backend = await self._ready()
        return await backend.watch.wait(job_id, timeout, tenant=tenant)

    def get_sync(self, job_id: str, *, tenant: str | None = None) -> JobRecord | None:
        """`get` for code without an event loop."""
        return self._call(partial(self.get, tenant=tenant), job_id)

    def wait_sync(self, job_id: str, timeout: float | None = None, *, tenant: str | None = None) -> JobRecord | None:
        """`wait` for code without an event loop."""
        return self._call(partial(self.wait, tenant=tenant), job_id, timeout)

    async def cancel(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Cancel a job, wherever it is: one that has not started never will; a running one hears of it within a second, in any process.

        Returns the record: `cancelled`, or still `running` with the request noted. user: who asks for it.
        Raises RecordNotFound (with `tenant` also for another tenant's job), TransitionRefused for a job that has ended, NotAuthorized, LedgerUnavailable.
        """
        backend = await self._ready()
        await self._allow("cancel", job_id, user, tenant)
        return await backend.cancel(job_id, reason=reason, user=user)

    def cancel_sync(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """`cancel` for code without an event loop."""
        return self._call(partial(self.cancel, reason=reason, user=user, tenant=tenant), job_id)

    # Operating ----------------------------------------------------------------------------------------------------------------------

    def list(
        self,
        *,
        status: Status | None = None,
        phase: Phase | None = None,
        type: str | None = None,  # noqa: A002 - what it is called everywhere
        queue: str | None = None,
        tenant: str | None = None,
        tag: str | None = None,
        user: str | None = None,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Listing[JobRecord]:
        """Records, the newest first: `page = await app.list(…)` gives one page, `async for record in app.list(…)` goes over all.

        Each filter that is given must hold; status and phase exclude each other. user: who enqueued them. since, until: of their creation, wall seconds
        or aware datetimes; the first is included, the second is not. cursor: `next_cursor` of the page before, with the same filters.
        limit: records of a page, 1 to 500. Default: 50. A page costs the same wherever it is.
        Raises InvalidOption, LedgerUnavailable; and for a type or a queue that is not declared and of which there is no record, UnknownJobType or InvalidOption, with
        the near miss.
        """
        wanted = RecordFilter(
            status=status,
            phase=phase,
            type=type,
            queue=queue,
            tenant=tenant,
            tag=tag,
            created_by=user,
            since=None if since is None else timestamp_ms(since),
            until=None if until is None else timestamp_ms(until),
        )
        return self._operations().list(wanted, cursor=cursor, limit=limit)

    async def counts(self, *, tenant: str | None = None, queue: str | None = None) -> dict[Status, Count]:
        """How many records there are of each status, exact up to 10,000 of each: see `Count.exact`. Raises LedgerUnavailable, and InvalidOption for a queue as in `list`."""
        return await self._operations().counts(tenant=tenant, queue=queue)

    async def attempts(self, job_id: str, *, tenant: str | None = None) -> Sequence[Attempt]:
        """The attempts of a job with their errors and times, oldest first, the one that runs included. Raises RecordNotFound, LedgerUnavailable."""
        return await self._operations().attempts(job_id, tenant=tenant)

    async def logs(
        self, job_id: str, *, tenant: str | None = None, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> Sequence[NumberedLine]:
        """A page of the lines that the job's handler wrote; the latest 1,000 of a job are kept.

        after: the number of the last line of the page before; 0, the default, for the first page. limit: 1 to 1,000 lines. Default: 100.
        Raises RecordNotFound, InvalidOption, LedgerUnavailable.
        """
        return await self._operations().logs(job_id, tenant=tenant, after=after, limit=limit, newest_first=newest_first)

    async def audit(self, job_id: str, *, tenant: str | None = None) -> Sequence[AuditEntry]:
        """Who did what to a job, oldest first; also of one whose record is no longer kept. Raises LedgerUnavailable."""
        return await self._operations().audit(job_id, tenant=tenant)

    async def set_quota(
        self,
        tenant: str,
        *,
        max_open: int | None,
        type: str | None = None,  # noqa: A002 - what it is called everywhere
        user: str | None = None,
    ) -> None:
        """Let a tenant have at most so many jobs that have not ended: an enqueue of one more raises QuotaExceeded, and nothing is stored.

        max_open: 0 or more; None takes the quota away. type: of that job type alone. Default: of all types together; both hold where both are set.
        user: who asks for it. It holds for every process from its next enqueue on, until it is set anew; jobs that are there stay. It is written into the audit.
        Raises InvalidOption, UnknownJobType, NotAuthorized, LedgerUnavailable.
        """
        await self._operations().set_quota(tenant, max_open=max_open, type=type, user=user)

    async def quotas(self, tenant: str) -> Sequence[Quota]:
        """The quotas of a tenant, the one of all its types first; none for a tenant that may have any number. Raises LedgerUnavailable."""
        return await self._operations().quotas(tenant)

    async def retry(
        self, job_id: str, *, payload: Any = None, user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Run a job by hand: one that has ended again, as a new generation with all its attempts; one that waits for its next attempt at once.

        payload: in place of the one that it had, checked against its type; only of a job that has ended. Default: the same. user: who asks for it.
        A server of queues that is down delays a new generation and nothing else.

        Returns the record. Raises RecordNotFound (with `tenant` also for another tenant's job), TransitionRefused for a job that is queued, running or
        waiting, NotAuthorized, UnknownJobType, PayloadInvalid, TenantMismatch, LedgerUnavailable; StoreUnavailable for a waiting job when the queue
        cannot be told, after which the call may be repeated.
        """
        await self._ready()
        return await self._operations().retry(job_id, payload=payload, user=user, tenant=tenant)

    async def why(self, job_id: str, *, tenant: str | None = None) -> Why:
        """Why a job is not running: one sentence, the reason as a word with details, and what is expected to happen next and when.

        Answers within seconds also when one of the servers, or both, are down, with what can be known then. Its cost does not grow with the queue.
        tenant: a job of another tenant is not found then.
        """
        return await Inquiry(self._backend()).ask(job_id, tenant=tenant)

    @property
    def dead_letters(self) -> DeadLetters:
        """The jobs that failed for good: `list`, `get`, `examine`, `redrive`, `discard`, `depth`."""
        return DeadLetters(self._backend, self._authorize)

    def _operations(self) -> Operations:
        return Operations(self._backend(), self._authorize)

    def _services(self, backend: Backend, upkeep: Upkeep, alerts: Alerts) -> Sequence[Service[Any]]:
        """What a worker runs beside its jobs."""
        services = upkeep.services(backend)
        if mirrors := mirror_queues(self.catalog):
            services.append(DeadLetterMirror(backend, mirrors, random=self._random))
        if self._dead_letter_limit is not None:
            services.append(
                DeadLetterDepth(
                    database=backend.database,
                    alerts=alerts,
                    limit=self._dead_letter_limit,
                    clock=self._clock,
                    random=self._random,
                )
            )
        return services

    async def _allow(self, action: str, job_id: str, user: str | None, tenant: str | None) -> None:
        if self._authorize is None and tenant is None:
            return
        record = await self.get(job_id, tenant=tenant)
        if record is None:
            raise RecordNotFound(f"the ledger holds no job {job_id!r:.80}", job_id=job_id)
        request = AccessRequest(action=action, job_type=record.type, tenant=record.tenant, user=user)
        await authorized(self._authorize, request)

    # Working ------------------------------------------------------------------------------------------------------------------------

    @overload
    def worker(self, *, processes: None = None, **options: Unpack[WorkerOptions]) -> JobWorker: ...
    @overload
    def worker(self, *, processes: int, **options: Unpack[WorkerOptions]) -> WorkerProcesses: ...
    def worker(self, *, processes: int | None = None, **options: Unpack[WorkerOptions]) -> JobWorker | WorkerProcesses:
        """A worker: `await worker.run()`, or `async with app.worker():` to have it in the background.

        options: see WorkerOptions. processes: make so many processes that run it, each with these options; they import the application, see `import_path`.
        Default: it runs in this one.

        Made on the event loop that it runs on. Raises InvalidOption for a queue that no job type goes to, and when there is no handler at all; with
        `processes` also for `deps`, and where no other process can import the application.
        """
        rules = WorkerRules.made(options)
        if processes is None:
            return self.worker_by(rules, deps=options.get("deps"))
        if options.get("deps") is not None:
            raise InvalidOption(
                "expected deps in Taurine(…, deps=…): what is given to this worker cannot reach other processes"
            )
        rules.queues_of(self.catalog)  # here, once, rather than in each process
        path = self._import_path or import_path_of(self, self._made_in)
        return WorkerProcesses(import_path=path, processes=processes, rules=rules, clock=self._clock)

    def worker_by(self, rules: WorkerRules, *, deps: Any = None) -> JobWorker:
        """The worker of these rules, for this process. deps: as in WorkerOptions."""
        backend = self._backend()
        alerts = Alerts(self._on_alert, redact=self._redact)
        return JobWorker(
            backend=backend,
            rules=rules,
            services=self._services(backend, rules.upkeep, alerts),
            alerts=alerts,
            deps=self._deps if deps is None else deps,
            redact=self._redact,
        )

    async def migrate(self) -> MigrationReport:
        """Bring the ledger's tables to this version's; safe to repeat, and in several processes at once."""
        backend = self._backend()
        if self.settings.database_url is None:
            self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await migrate(backend.database)

    async def compare(self) -> Divergence:
        """Count where the records and the queues disagree, changing nothing; at rest all is 0. Reads every open record and every job in line.

        Raises LedgerUnavailable, StoreUnavailable, StoreRefused.
        """
        return await compare(await self._ready())

    # Opening and closing --------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close what this event loop, and the calls for code without one, have opened."""
        backend = self._backends.pop(asyncio.get_running_loop(), None)
        if backend is not None:
            await backend.close()
        await asyncio.to_thread(self.close_sync)

    def close_sync(self) -> None:
        """Close what the calls for code without an event loop have opened."""
        with self._loop_thread_lock:
            thread, self._loop_thread = self._loop_thread, None
            if thread is not None and thread.alive:
                thread.call(self._close_loop())
                thread.close()
        for abandoned in self._take_abandoned():
            abandoned.abandon()

    async def _close_loop(self) -> None:
        backend = self._backends.pop(asyncio.get_running_loop(), None)
        if backend is not None:
            await backend.close()

    async def __aenter__(self) -> Self:
        backend = self._backend()
        try:
            await backend.ready()
        except LedgerError as error:
            # A web server starts before its database, and `migrate` may be the first thing that the block does: each call says so again.
            log.warning("%s starts without its ledger: %s", self.name, error)
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
                name=self.name,
                settings=self.settings,
                catalog=self.catalog,
                records=self,
                authorize=self._authorize,
                clock=self._clock,
                random=self._random,
                redact=self._redact,
            )
            for abandoned in self._take_abandoned():
                abandoned.abandon(backend)
        return backend

    def _take_abandoned(self) -> builtins.list[Backend]:
        """What stands open for loops that were closed without `close`, as `asyncio.run` does; the caller lets go of it."""
        closed = [loop for loop in tuple(self._backends) if loop.is_closed()]
        taken = [self._backends.pop(loop, None) for loop in closed]  # another thread may take one first
        return [backend for backend in taken if backend is not None]

    async def _ready(self) -> Backend:
        backend = self._backend()
        if not backend.is_ready:
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
        with self._loop_thread_lock:
            if self._loop_thread is None or not self._loop_thread.alive:
                self._loop_thread = LoopThread()
            thread = self._loop_thread
        return thread.call(function(*arguments))
