"""Taurine: the application. It composes the parts below it, and they do not know it."""

from __future__ import annotations

import asyncio
import builtins
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, cast, overload

from taurine.clock import Clock, SystemClock
from taurine.errors import InvalidOption, LedgerError, RecordNotFound
from taurine.heartbeat import Heartbeat
from taurine.jobs.backend import Backend
from taurine.jobs.backends import Backends
from taurine.jobs.catalog.catalog import Catalog, warn_of_vague_name
from taurine.jobs.catalog.declaring import JobOptions, JobTypeOptions, RecurringOptions
from taurine.jobs.catalog.job_type import CronDecorator, JobDecorator, JobType
from taurine.jobs.catalog.queues import OnVanished, QueueRules
from taurine.jobs.catalog.requests import AnySession, EnqueueOptions
from taurine.jobs.catalog.signatures import annotations_of, name_of
from taurine.jobs.changes.subscription import Subscription, Topic
from taurine.jobs.credentials.admins import Admins
from taurine.jobs.credentials.api_keys import ApiKeys
from taurine.jobs.credentials.sessions import Sessions
from taurine.jobs.credentials.used_tokens import UsedTokens
from taurine.jobs.enqueue.access import Authorize
from taurine.jobs.enqueue.checking import Checks
from taurine.jobs.enqueue.enqueuer import Recording
from taurine.jobs.enqueue.handle import JobHandle
from taurine.jobs.enqueue.joining import session_of_thread
from taurine.jobs.enqueue.standing_in import Accepting, StandIns
from taurine.jobs.operations.alerts import AlertStates
from taurine.jobs.operations.bulk import OPERATIONS_QUEUE, Bulk
from taurine.jobs.operations.dead_letters import DeadLetters
from taurine.jobs.operations.diagnosis import Diagnosis, Finding
from taurine.jobs.operations.looking_up import Lookup
from taurine.jobs.operations.mirror import DeadLetterMirror, mirror_queues
from taurine.jobs.operations.operating import Operations
from taurine.jobs.operations.queues import Queues
from taurine.jobs.operations.readiness import Readiness, look_whether_ready
from taurine.jobs.operations.readings import Readings, take_readings
from taurine.jobs.operations.throughput import Throughput, throughput_of, totals_of
from taurine.jobs.operations.why import Inquiry, Why
from taurine.jobs.operations.workers import Workers
from taurine.jobs.reconciler.comparing import Divergence, compare
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.alerts import Alert, Alerts, OnAlert
from taurine.jobs.reporting.lines import log
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.schedules.declaring import DeclaredSchedule, TickedBy, Timetable
from taurine.jobs.schedules.installing import ScheduleInstaller
from taurine.jobs.schedules.schedules import Schedules
from taurine.jobs.worker.import_path import import_path_of
from taurine.jobs.worker.options import WorkerOptions, WorkerRules
from taurine.jobs.worker.processes import WorkerProcesses
from taurine.jobs.worker.worker import JobWorker
from taurine.ledger.attempts import Attempt
from taurine.ledger.audit import ActionFilter, AuditEntry
from taurine.ledger.job_logs import NumberedLine
from taurine.ledger.listing import Count, RecordFilter
from taurine.ledger.migrate import MigrationReport, migrate
from taurine.ledger.quotas import Quota
from taurine.ledger.records import JobRecord
from taurine.ledger.statuses import Phase, Status
from taurine.observe.alerts.defaults import DEFAULT_RULES, checked_rules
from taurine.observe.alerts.outside import OutsideEvents
from taurine.observe.alerts.rule import AlertRule
from taurine.observe.alerts.sinks.sink import Sink, checked_sinks
from taurine.observe.alerts.watch import AlertWatch
from taurine.observe.queue_gauge import QueueGauge
from taurine.options import RateLimit, Seconds, require_count, to_seconds
from taurine.paging import Listing
from taurine.pipeline.pipeline import Pipeline
from taurine.queue.scheduler import Schedule
from taurine.queue.stored_options import timestamp_ms
from taurine.service import Service
from taurine.settings import Environment, LogFormat, Settings
from taurine.telemetry import Telemetry

if TYPE_CHECKING:
    from taurine.observe.health_port import ProcessesHealth, WorkerHealth

__all__ = ["Taurine"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class Taurine:
    """One application: its catalog of job types, its records, its workers.

    name: what it is called in logs and dashboards. The settings (redis_url to log_format) default to the environment's,
    see `Settings`;
    with none at all an embedded Valkey and SQLite in `.taurine/` are used.
    deps: what handlers find as `ctx.deps`. Default: None.
    authorize: asked before each enqueue and each change; see `AccessRequest`. Default: everything is allowed.
    on_alert: told what operators must hear of at once, one alert after the other; see `Alert`. A plain function is
    called in a thread. Default: the log only.
    redact: what log lines, and errors that are kept with records, must not show. Default: obvious secrets and e-mail
    addresses; `Redact.NONE` hides nothing.
    telemetry: told of what happens to jobs as spans and measures, such as `taurine.observe.otel.OpenTelemetry()`; see
    `taurine.telemetry`. Default: nobody.
    default_queue: where job types go that name no queue. Default: "jobs".
    alerts: the rules of alerts, see `taurine.observe.alerts`; any worker looks by them. Default: `DEFAULT_RULES`; ()
    for none, and then nothing is kept of events either.
    alert_sinks: who is told beside the log and `on_alert`, such as a `WebhookSink`; the same in all processes. Default:
    nobody.
    import_path: where worker processes find it, as "module:name". Default: looked for in the module that makes it, and
    in the program's own.
    clock, random: time and randomness. Default: the machine's.

    Nothing is opened before the first call that needs it. As an async context manager it hands over, in the background,
    what could not be handed over at once, and closes everything at the end. Raises InvalidOption for a setting that is
    out of range.
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
        secret: str | None = None,
        log_format: LogFormat | None = None,
        deps: Any = None,
        authorize: Authorize | None = None,
        on_alert: OnAlert | None = None,
        redact: Redact = Redact.DEFAULT,
        telemetry: Telemetry | None = None,
        default_queue: str = "jobs",
        alerts: Iterable[AlertRule] = DEFAULT_RULES,
        alert_sinks: Sequence[Sink] = (),
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
            secret=secret,
            log_format=log_format,
        )
        self.catalog = Catalog()
        self._timetable = Timetable()
        self._deps = deps
        self._authorize = authorize
        self._on_alert = on_alert
        self._redact = redact
        self._telemetry = telemetry
        self._default_queue = default_queue
        self._alert_rules = checked_rules(alerts)
        self._alert_sinks = checked_sinks(alert_sinks)
        self._import_path = import_path
        self._made_in = str(sys._getframe(1).f_globals.get("__name__"))  # pyright: ignore[reportPrivateUsage] - as the logging module does
        self._clock = clock or SystemClock()
        self._random = random or SystemRandom()
        checks = Checks(authorize=authorize, clock=self._clock, source=name, kept_for=self._timetable.kept_for)
        self.stand_ins = StandIns(checks=checks, authorize=authorize, clock=self._clock)
        """What `taurine.testing` puts in place of the servers."""
        self._backends = Backends(
            partial(
                Backend,
                name=name,
                settings=self.settings,
                catalog=self.catalog,
                records=self,
                kept_for=self._timetable.kept_for,
                authorize=authorize,
                clock=self._clock,
                random=self._random,
                redact=redact,
                telemetry=telemetry,
            )
        )
        self._bulk = Bulk(self, backend=partial(self._backend_for, "bulk"), authorize=authorize, clock=self._clock)
        self.catalog.add_system(self._bulk.job_type)

    def __repr__(self) -> str:
        return f"Taurine({self.name!r}, {len(self.catalog)} job types)"

    @property
    def deps(self) -> Any:
        """What handlers find as `ctx.deps`."""
        return self._deps

    @property
    def clock(self) -> Clock:
        """The time that it goes by."""
        return self._clock

    @property
    def redact(self) -> Redact:
        """What is not shown in logs, errors and answers."""
        return self._redact

    @property
    def telemetry(self) -> Telemetry | None:
        """Who is told of spans and measures, as it was given."""
        return self._telemetry

    # Declaring ----------------------------------------------------------------------------------------------------------------------

    def job(self, name: str, **options: Unpack[RecurringOptions]) -> JobDecorator:
        """Decorator: declare a job type with the function that runs it, async or not.

        The payload's and the result's types are read from it.

        name: what the type is called everywhere, for example "email.send-invite". options: see RecurringOptions.
        Raises CatalogError, AlreadyDeclared, InvalidOption, InvalidName: at import, not at the first enqueue. Warns of
        a name that says nothing.
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
        self, name: str, payload: type[PayloadT], **options: Unpack[RecurringOptions]
    ) -> JobType[PayloadT, Any]: ...
    @overload
    def declare(
        self, name: str, payload: type[PayloadT], result: type[ResultT], **options: Unpack[RecurringOptions]
    ) -> JobType[PayloadT, ResultT]: ...
    def declare(
        self, name: str, payload: Any, result: Any = Any, **options: Unpack[RecurringOptions]
    ) -> JobType[Any, Any]:
        """Declare a job type without its handler, for processes that only enqueue; `@declared.handler` attaches it in
        the worker.

        payload, result: their types; a result that is left out may be anything. options, errors and warning as in
        `job`.
        """
        warn_of_vague_name(name)
        rules = JobOptions.made(options, default_queue=self._default_queue)
        return self._add(name, payload, result, rules, None)

    def cron(
        self,
        pattern: str,
        *,
        tz: str = "UTC",
        id: str | None = None,  # noqa: A002 - what it is called everywhere
        by: TickedBy = "workers",
        **options: Unpack[JobTypeOptions],
    ) -> CronDecorator:
        """Decorator: declare a job type that a schedule runs, with its handler, which is given the context alone, a
        payload whose fields all have defaults, or nothing. Of a job type that is declared already: give it a schedule,
        or one more.

        pattern: cron, five fields or six with the second in front, see docs/cron.md. tz: the zone of its times, such as
        "Europe/Berlin". Default: UTC.
        id: what the schedule and the job type are called for ever. Default: the function's name, or the job type's. by:
        who sees to it that it ticks: "workers", which install it in its queue, or "http", somebody outside who calls
        `/cron/{id}`. Default: "workers". options: as in `job`; for a type that is declared already, `description`
        alone.

        Nothing is created before a worker of the queue starts. Raises InvalidOption for a pattern, which names the
        field, a zone that cannot be used, and `every`;
        AlreadyDeclared for an id that is taken; and what `job` raises. What raises declares nothing.
        """
        if "every" in options:
            raise InvalidOption(
                "every is no option of `cron`, whose pattern says when; for an interval write `@app.job(name, every=...)`"
            )
        times = Schedule.checked(pattern=pattern, tz=tz)
        local_names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] - as in `job`

        def scheduled(job_type: JobType[Any, Any]) -> DeclaredSchedule:
            schedule_id = job_type.name if id is None else id
            return DeclaredSchedule.of(job_type, schedule_id, times, options.get("description", ""), by=by)

        def decorate(function: Callable[..., Any] | JobType[Any, Any]) -> JobType[Any, Any]:
            if isinstance(function, JobType):
                job_type = cast("JobType[Any, Any]", function)
                if further := options.keys() - {"description"}:
                    listed = ", ".join(sorted(further))
                    raise InvalidOption(f"the job type {job_type.name!r} has its options already: {listed}")
                self.catalog.check(job_type)
                self._timetable.add(scheduled(job_type))
                return job_type
            name = name_of(function).rpartition(".")[2] if id is None else id
            warn_of_vague_name(name)
            rules = JobOptions.made(options, default_queue=self._default_queue)
            payload, result = annotations_of(function, name, local_names)
            return self._add(name, payload, result, rules, function, scheduled=scheduled)

        return cast("CronDecorator", decorate)

    def pipeline(
        self, pipeline: Pipeline[PayloadT, ResultT], *, name: str | None = None, **options: Unpack[RecurringOptions]
    ) -> JobType[PayloadT, ResultT]:
        """Declare a job type that runs a pipeline: its payload is what the first stage takes, its result what the last
        one returns.

        name: what the type is called. Default: the pipeline's name. options, errors and warning as in `job`; a pipeline
        runs on the event loop, its plain stages in threads.
        """
        name = pipeline.name if name is None else name
        warn_of_vague_name(name)
        rules = JobOptions.made(options, default_queue=self._default_queue)
        if rules.runs_in not in (None, "loop"):
            raise InvalidOption(
                f"{name}: a pipeline runs on the event loop, and its plain stages in threads; for runs_in={rules.runs_in!r} declare a function that ends "
                "with `return await pipeline.run(payload, ctx)`"
            )
        return self._add(name, pipeline.takes, pipeline.returns, rules, pipeline.run)

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

        shared: others use it too, such as BullMQ on Node. The jobs that they add are adopted into records, if their
        type is declared here and goes to this queue; the ends that their workers bring about are written into the
        records. Ended jobs are kept in the queue by age alone, at most 24 hours where no age is declared.
        Default: False; a job without a record is refused then.
        on_vanished: what becomes of an open job that the queue no longer has, and that is not known to have been
        removed by hand. "restore": it is put back, since the server has lost it; so are jobs that were taken out by
        BullMQ's drain, clean or obliterate. "cancel": its record is cancelled. Default: "restore".
        A job that is removed alone (`Queue.remove`, a dashboard) is cancelled in any case, as long as the queue's event
        stream tells of it.
        rate_limit, concurrency: job starts per window, and most jobs at once, over all workers. Set when nothing else
        is set, also after the server has lost its data.
        Default: none. A pause is not declared: one that the server has lost is over.
        dead_letter_queue: a BullMQ queue that gets a copy of each open dead letter, for dashboards that know nothing of
        the ledger: its name, or True for `<name>-dlq`.
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
        self,
        name: str,
        payload: Any,
        result: Any,
        options: JobOptions,
        handler: Callable[..., Any] | None,
        *,
        scheduled: Callable[[JobType[Any, Any]], DeclaredSchedule] | None = None,
    ) -> JobType[Any, Any]:
        job_type = JobType[Any, Any](
            name, payload=payload, result=result, options=options, producer=self, handler=handler
        )
        schedule: DeclaredSchedule | None = None
        if scheduled is not None:
            schedule = scheduled(job_type)
        elif options.every is not None:
            schedule = DeclaredSchedule.of_interval(job_type, options.every)
        if schedule is None:
            self.catalog.add(job_type)
            return job_type
        # What raises declares nothing: without its schedule the job type would look complete, and never run.
        self._timetable.require_free(schedule.id)
        self.catalog.add(job_type)
        self._timetable.add(schedule)
        return job_type

    # Enqueueing: the port of job types ----------------------------------------------------------------------------------------------

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT] | str, payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]:
        """`JobType.enqueue` of a type, or of the type of a name.

        Raises UnknownJobType, with the near miss, and what that raises.
        """
        declared = self._declared(job_type)
        return await (await self._accepting()).enqueue(declared, payload, options)

    async def enqueue_many(
        self,
        job_type: JobType[PayloadT, ResultT] | str,
        payloads: Sequence[PayloadT],
        **options: Unpack[EnqueueOptions],
    ) -> builtins.list[JobHandle[ResultT]]:
        """`JobType.enqueue_many` of a type, or of the type of a name. Raises UnknownJobType, and what that raises."""
        declared = self._declared(job_type)
        return await (await self._accepting()).enqueue_many(declared, payloads, options)

    def enqueue_sync(
        self, job_type: JobType[PayloadT, ResultT] | str, payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]:
        """`enqueue` for code without an event loop."""
        declared = self._declared(job_type)
        if (session := options.get("session")) is not None:
            return self._join_sync(session, lambda accepting: accepting.prepared(declared, payload, options))[0]
        return self._backends.call(self.enqueue, declared, payload, **options)

    def enqueue_many_sync(
        self,
        job_type: JobType[PayloadT, ResultT] | str,
        payloads: Sequence[PayloadT],
        **options: Unpack[EnqueueOptions],
    ) -> builtins.list[JobHandle[ResultT]]:
        """`enqueue_many` for code without an event loop."""
        declared = self._declared(job_type)
        if (session := options.get("session")) is not None:
            return self._join_sync(session, lambda accepting: accepting.prepared_many(declared, payloads, options))
        return self._backends.call(self.enqueue_many, declared, payloads, **options)

    def _join_sync(
        self, given: AnySession, prepared: Callable[[Accepting], Awaitable[Recording[ResultT]]]
    ) -> builtins.list[JobHandle[ResultT]]:
        """A session belongs to the caller's thread: what is written through it is written there, and only the checks
        are made on the loop.
        """
        session = session_of_thread(given)

        async def checked() -> Recording[ResultT]:
            return await prepared(await self._accepting())

        return self._backends.call(checked)(session)

    async def _accepting(self) -> Accepting:
        return self.stand_ins.here() or (await self._backends.ready()).enqueuer

    def _declared(self, job_type: JobType[PayloadT, ResultT] | str) -> JobType[PayloadT, ResultT]:
        if isinstance(job_type, str):
            return self.catalog.declared(job_type)
        self.catalog.check(job_type)
        return job_type

    # Records ------------------------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str, *, tenant: str | None = None) -> JobRecord | None:
        """The record of a job, or None. It outlives what the queue keeps.

        tenant: a job of another tenant is None then. Raises LedgerUnavailable.
        """
        record = await (self.stand_ins.here() or self._backend()).get(job_id)
        return None if record is None or (tenant is not None and record.tenant != tenant) else record

    async def get_many(self, job_ids: Sequence[str], *, tenant: str | None = None) -> dict[str, JobRecord]:
        """The records of some ids, those that there are, by id.

        tenant: jobs of another tenant are left out then. Raises LedgerUnavailable.
        """
        return await self._operations("get_many").get_many(job_ids, tenant=tenant)

    async def look_up(self, job_ids: Sequence[str], *, tenant: str | None = None) -> Lookup:
        """The same for an answer of bounded size: `records` in the order of the ids, each once, `missing`, and
        `left_out`, which were not looked at since the payloads of the others come to some megabytes.

        Raises LedgerUnavailable.
        """
        return await self._operations("look_up").look_up(job_ids, tenant=tenant)

    @asynccontextmanager
    async def changes(
        self,
        *,
        job_id: str | None = None,
        tag: str | None = None,
        tenant: str | None = None,
        after: str | None = None,
        follow: bool = False,
        buffer: int = 256,
    ) -> AsyncGenerator[Subscription]:
        """Listen to what changes: `async with app.changes(job_id=…) as changes: async for change in changes: …`.

        Of one job, `change.record` is first what it is now, then what it is after each change, within a quarter of a
        second; it is over when the job has ended. Of a tag, or of a tenant, it goes on until it is left, and begins
        with the next change; of a tag without a tenant the 1,000 newest jobs count. tenant beside job_id or tag:
        another tenant's jobs are none of it.
        after: `position` of the last change that was seen, in whichever process: go on behind it. A change may be told
        twice. One of which `record` is None says that more has changed than is told one by one: read the list again.
        follow: of one job, go on after its end. Default: False. buffer: jobs whose latest change may wait to be read.
        Default: 256.

        All who listen in one process share one look at the ledger. Raises RecordNotFound, InvalidOption, StreamsFull,
        LedgerUnavailable; and StreamDropped while listening, when more than `buffer` changes waited, and when the
        application is closed.
        """
        backend = self._backend_for("changes")
        await backend.ready()
        if job_id is not None and await self.get(job_id, tenant=tenant) is None:
            raise RecordNotFound(f"there is no job {job_id!r:.80}", job_id=job_id)
        topic = Topic(job_id=job_id, tag=tag, tenant=tenant)
        buffer = require_count(buffer, "buffer", minimum=1)
        subscription = backend.changes.subscribe(topic, after=after, follow=follow, buffer=buffer)
        try:
            yield subscription
        finally:
            subscription.close()

    async def wait(self, job_id: str, timeout: float | None = None, *, tenant: str | None = None) -> JobRecord | None:
        """The record once the job has ended; the latest one when `timeout` seconds have passed before, None if there is
        none.

        tenant: a job of another tenant is None then, at once. Raises LedgerUnavailable for a database that is away at
        the end of that time.
        """
        if (stand_in := self.stand_ins.here()) is not None:
            return await stand_in.wait(job_id, timeout, tenant=tenant)
        backend = await self._backends.ready()
        return await backend.watch.wait(job_id, timeout, tenant=tenant)

    def get_sync(self, job_id: str, *, tenant: str | None = None) -> JobRecord | None:
        """`get` for code without an event loop."""
        return self._backends.call(self.get, job_id, tenant=tenant)

    def wait_sync(self, job_id: str, timeout: float | None = None, *, tenant: str | None = None) -> JobRecord | None:
        """`wait` for code without an event loop."""
        return self._backends.call(self.wait, job_id, timeout, tenant=tenant)

    async def cancel(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Cancel a job, wherever it is: one that has not started never will; a running one hears of it within a second,
        in any process.

        Returns the record: `cancelled`, or still `running` with the request noted. user: who asks for it.
        Raises RecordNotFound (with `tenant` also for another tenant's job), TransitionRefused for a job that has ended,
        NotAuthorized, LedgerUnavailable.
        """
        if (stand_in := self.stand_ins.here()) is not None:
            return await stand_in.cancel(job_id, reason=reason, user=user, tenant=tenant)
        return await self._operations("cancel").cancel(job_id, reason=reason, user=user, tenant=tenant)

    def cancel_sync(
        self, job_id: str, *, reason: str = "cancelled", user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """`cancel` for code without an event loop."""
        return self._backends.call(self.cancel, job_id, reason=reason, user=user, tenant=tenant)

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
        """Records, the newest first: `page = await app.list(…)` gives one page, `async for record in app.list(…)` goes
        over all.

        Each filter that is given must hold; status and phase exclude each other. user: who enqueued them. since, until:
        of their creation, wall seconds or aware datetimes; the first is included, the second is not. cursor:
        `next_cursor` of the page before, with the same filters.
        limit: records of a page, 1 to 500. Default: 50. A page costs the same wherever it is.
        Raises InvalidOption, LedgerUnavailable; and for a type or a queue that is not declared and of which there is no
        record, UnknownJobType or InvalidOption, with the near miss.
        """
        wanted = RecordFilter(
            status=status,
            phase=phase,
            type=type,
            queue=queue,
            tenant=tenant,
            tag=tag,
            created_by=user,
            since=_milliseconds(since),
            until=_milliseconds(until),
        )
        return self._operations("list").list(wanted, cursor=cursor, limit=limit)

    def search(
        self,
        text: str,
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
        """Records in which `text` stands: in the id, the type, a tag or the error, in large or small letters; the
        newest first, after the one whose id it is.

        text: 1 to 200 printable characters, each of which stands for itself. The filters, cursor and limit are as in
        `list`.
        A page looks at 10,000 records at most, so it may have few or none although `next_cursor` says that there is
        more to look at; it costs the same wherever it is.
        Raises InvalidOption, LedgerUnavailable.
        """
        wanted = RecordFilter(
            status=status,
            phase=phase,
            type=type,
            queue=queue,
            tenant=tenant,
            tag=tag,
            created_by=user,
            since=_milliseconds(since),
            until=_milliseconds(until),
        )
        return self._operations("search").search(text, wanted, cursor=cursor, limit=limit)

    async def counts(self, *, tenant: str | None = None, queue: str | None = None) -> dict[Status, Count]:
        """How many records there are of each status, exact up to 10,000 of each: see `Count.exact`.

        Raises LedgerUnavailable, and InvalidOption for a queue as in `list`.
        """
        return await self._operations("counts").counts(tenant=tenant, queue=queue)

    def attempts(
        self,
        job_id: str,
        *,
        tenant: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
        newest_first: bool = False,
    ) -> Listing[Attempt]:
        """The attempts of a job with their errors and times, oldest first, the one that runs included: `await` gives
        one page, `async for` goes over all.

        cursor: `next_cursor` of the page before, in the same order. limit: 1 to 500. Default: 500. Raises
        RecordNotFound, InvalidOption, LedgerUnavailable.
        """
        operations = self._operations("attempts")
        return operations.attempts(job_id, tenant=tenant, cursor=cursor, limit=limit, newest_first=newest_first)

    async def logs(
        self, job_id: str, *, tenant: str | None = None, after: int = 0, limit: int = 100, newest_first: bool = False
    ) -> Sequence[NumberedLine]:
        """A page of the lines that the job's handler wrote; the latest 1,000 of a job are kept.

        after: the number of the last line of the page before; 0, the default, for the first page. limit: 1 to 1,000
        lines. Default: 100.
        Raises RecordNotFound, InvalidOption, LedgerUnavailable.
        """
        operations = self._operations("logs")
        return await operations.logs(job_id, tenant=tenant, after=after, limit=limit, newest_first=newest_first)

    def audit(
        self,
        job_id: str,
        *,
        tenant: str | None = None,
        cursor: str | None = None,
        limit: int = 500,
        newest_first: bool = False,
    ) -> Listing[AuditEntry]:
        """Who did what to a job, oldest first; also of one whose record is no longer kept: `await` gives one page,
        `async for` goes over all.

        cursor: `next_cursor` of the page before, in the same order. limit: 1 to 500. Default: 500. Raises
        InvalidOption, LedgerUnavailable.
        """
        wanted = ActionFilter(job_id=job_id, tenant=tenant)
        return self._operations("audit").actions(wanted, cursor=cursor, limit=limit, newest_first=newest_first)

    def actions(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        tenant: str | None = None,
        since: float | datetime | None = None,
        until: float | datetime | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> Listing[AuditEntry]:
        """Who did what, the latest first, of all jobs and of queues and quotas: `await` gives one page, `async for`
        goes over all.

        Each filter that is given must hold. actor: who. action: such as "cancel" or "pause_queue". tenant: whose.
        since, until: wall seconds or aware datetimes; the first is included, the second is not. cursor: `next_cursor`
        of the page before. limit: 1 to 500. Default: 50. Raises InvalidOption, LedgerUnavailable.
        """
        wanted = ActionFilter(
            actor=actor,
            action=action,
            tenant=tenant,
            since=_milliseconds(since),
            until=_milliseconds(until),
        )
        return self._operations("actions").actions(wanted, cursor=cursor, limit=limit)

    async def set_quota(
        self,
        tenant: str,
        *,
        max_open: int | None = None,
        max_rate: RateLimit | None = None,
        type: str | None = None,  # noqa: A002 - what it is called everywhere
        user: str | None = None,
    ) -> None:
        """Let a tenant have at most so many jobs that have not ended, and add at most so many in a time: an enqueue of
        one more raises QuotaExceeded, and nothing is stored.

        max_open: 0 or more. Default: any number. max_rate: `RateLimit(100, 60)` is a hundred at once, and as many
        again, evenly, in each minute; up to 1,000,000. Default: any number. What is not given is no longer limited, so
        that neither of them takes the quota away. The rate counts jobs that are accepted, and not repeats of a request,
        nor what is run again by hand. type: of that job type alone. Default: of all types together; both hold where
        both are set.
        user: who asks for it. It holds for every process from its next enqueue on, until it is set anew; jobs that are
        there stay. It is written into the audit.
        Raises InvalidOption, UnknownJobType, NotAuthorized, LedgerUnavailable.
        """
        operations = self._operations("set_quota")
        await operations.set_quota(tenant, max_open=max_open, max_rate=max_rate, type=type, user=user)

    async def quotas(self, tenant: str) -> Sequence[Quota]:
        """The quotas of a tenant, the one of all its types first; none for a tenant that may have any number.

        Raises LedgerUnavailable.
        """
        return await self._operations("quotas").quotas(tenant)

    async def retry(
        self, job_id: str, *, payload: Any = None, user: str | None = None, tenant: str | None = None
    ) -> JobRecord:
        """Run a job by hand: one that has ended again, as a new generation with all its attempts; one that waits for
        its next attempt at once.

        payload: in place of the one that it had, checked against its type; only of a job that has ended. Default: the
        same. user: who asks for it.
        A server of queues that is down delays a new generation and nothing else.

        Returns the record. Raises RecordNotFound (with `tenant` also for another tenant's job), TransitionRefused for a
        job that is queued, running or waiting, NotAuthorized, UnknownJobType, PayloadInvalid, TenantMismatch,
        LedgerUnavailable; StoreUnavailable for a waiting job when the queue cannot be told, after which the call may be
        repeated.
        """
        return await self._operations("retry").retry(job_id, payload=payload, user=user, tenant=tenant)

    async def reschedule(
        self,
        job_id: str,
        *,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        user: str | None = None,
        tenant: str | None = None,
    ) -> JobRecord:
        """Let a job that waits for its start, or for its next attempt, begin at another time. Give one of the two.

        run_at: an aware datetime. delay: seconds from now; 0 for at once. user: who asks for it. Attempts are kept, and
        the time by which it expires moves along. A server of queues that is down delays that it starts, and nothing
        else.

        Returns the record. Raises InvalidOption, RecordNotFound (with `tenant` also for another tenant's job),
        TransitionRefused for a job that runs, waits for others or has ended, NotAuthorized, LedgerUnavailable.
        """
        if delay is not None:
            start: EnqueueOptions = {"delay": delay} if run_at is None else {"delay": delay, "run_at": run_at}
        elif run_at is not None:
            start = {"run_at": run_at}
        else:
            raise InvalidOption("expected run_at or delay, got neither")
        return await self._operations("reschedule").reschedule(job_id, start, user=user, tenant=tenant)

    async def why(self, job_id: str, *, tenant: str | None = None, whole: bool | None = None) -> Why:
        """Why a job is not running: one sentence, the reason as a word with details, and what is expected to happen
        next and when.

        Answers within seconds also when one of the servers, or both, are down, with what can be known then. Its cost
        does not grow with the queue.
        tenant: a job of another tenant is not found then. whole: False leaves out figures of the queue, which all
        tenants share, and names of workers and servers. Default: True without a tenant, False with one.
        """
        return await Inquiry(self._backend_for("why")).ask(job_id, tenant=tenant, whole=whole)

    @property
    def dead_letters(self) -> DeadLetters:
        """The jobs that failed for good: `list`, `get`, `examine`, `redrive`, `discard`, `depth`."""
        return DeadLetters(partial(self._backend_for, "dead_letters"), self._authorize)

    @property
    def alerts(self) -> AlertStates:
        """What the rules of alerts find: `list`."""
        return AlertStates(partial(self._backend_for, "alerts"))

    async def tell_alert(self, alert: Alert) -> None:
        """Have an event outside of workers told as theirs are: to `on_alert` at once, and by the rules of events to the
        sinks, at the next look of a process that looks.

        The hook hears of each call, whether the ledger is there or not. Without the ledger this process keeps the event
        for the sinks, of a thousand the newest, and tries again every 15 seconds and at the next call; `close` tries
        for a second more, and what is not written then is lost with the process. What cannot be told is logged, and not
        raised.
        """
        backend = self._backend()
        if backend.events is None:
            backend.events = OutsideEvents(backend, self._alert_rules, application=self.name, on_alert=self._on_alert)
        await backend.events.tell(alert)

    @property
    def queues(self) -> Queues:
        """The queues as an operator sees them: `list`, `get`, `has_work`, `events`, `pause`, `resume`, `drain`,
        `clean`, `set_concurrency`, `set_rate_limit`, `remove`.
        """
        return Queues(partial(self._backend_for, "queues"), self._authorize)

    @property
    def bulk(self) -> Bulk:
        """Changes of many jobs or dead letters, by a job that any worker runs: `count`, `start`, `list`, `get`."""
        return self._bulk

    @property
    def schedules(self) -> Schedules:
        """Jobs that come back: `list`, `get`, `next_runs`, `trigger`, `remove`."""
        backend = partial(self._backend_for, "schedules")
        return Schedules(self._timetable, backend=backend, authorize=self._authorize, clock=self._clock)

    @property
    def api_keys(self) -> ApiKeys:
        """The keys of callers from outside: `create`, `list`, `revoke`, `verify`."""
        return ApiKeys(partial(self._backend_for, "api_keys"), self._authorize)

    @property
    def admins(self) -> Admins:
        """The people who log in with a password: `add`, `list`, `remove`, `set_password`, `check`."""
        return Admins(partial(self._backend_for, "admins"), self._authorize)

    @property
    def sessions(self) -> Sessions:
        """What cookies stand for after a login: `open`, `find`, `close`."""
        return Sessions(partial(self._backend_for, "sessions"))

    @property
    def used_tokens(self) -> UsedTokens:
        """Public tokens that may be used once: `use`."""
        return UsedTokens(partial(self._backend_for, "used_tokens"))

    @property
    def workers(self) -> Workers:
        """The workers of all processes: `list`."""
        return Workers(partial(self._backend_for, "workers"))

    async def throughput(self, *, window: Seconds = 300.0) -> builtins.list[Throughput]:
        """What jobs came to lately, by queue: outcomes, rates, and how long they waited and ran.

        Every declared queue is there, and each that had an end.

        window: seconds until now, up to seven days. Default: 300. Counted from the start of the minute in which it
        begins, so `Throughput.seconds` may be up to 60 more.
        Workers add what they count every five seconds. Its cost grows with the window and not with the jobs. Raises
        InvalidOption, LedgerUnavailable.
        """
        return await throughput_of(self._backend_for("throughput"), window=to_seconds(window, "window"))

    async def totals(self) -> builtins.list[Throughput]:
        """What jobs ever came to, by queue and type, since the ledger was made. Raises LedgerUnavailable."""
        return await totals_of(self._backend_for("totals"))

    async def readings(self, *, within: Seconds = 2.0) -> Readings:
        """What both servers say now, in one look: counts, ages, totals, workers, how late schedules are.

        For metrics, health and alerts.

        within: seconds that each server has; what one does not say by then is None, and the other's is there. Default:
        2. Its cost does not grow with the number of jobs.
        """
        seconds = to_seconds(within, "within")
        return await take_readings(self._backend_for("readings"), self.schedules.list, within=seconds)

    async def readiness(self, *, within: Seconds = 2.0) -> Readiness:
        """Whether the ledger answers and has the tables of this version, and whether the server of queues answers.

        within: seconds that each has. Default: 2.
        """
        return await look_whether_ready(self._backend_for("readiness"), within=to_seconds(within, "within"))

    async def diagnose(self) -> builtins.list[Finding]:
        """Look over the settings, both servers, the disk, and whether anybody works on the queues, changing nothing;
        each finding says what to do.

        Takes some seconds at most, and never raises for a server that does not answer: that is a finding.
        """
        backend = self._backend_for("diagnose")
        return await Diagnosis(backend, queues=self.queues, schedules=self.schedules.list).findings()

    def _operations(self, name: str) -> Operations:
        return Operations(self._backend_for(name), self._authorize)

    def _backend_for(self, operation: str) -> Backend:
        """What is open on this event loop, for an operation that no stand-in has."""
        self.stand_ins.refuse(operation)
        return self._backend()

    def _services(self, backend: Backend, rules: WorkerRules, alerts: Alerts) -> Sequence[Service[Any]]:
        """What a worker runs beside its jobs."""
        services = rules.upkeep.services(backend, alerts)
        if (interval := rules.upkeep.install_every) is not None:
            schedules = partial(self._timetable.of_queues, rules.queues_of(self.catalog))
            seconds = to_seconds(interval, "install_every")
            services.append(ScheduleInstaller(schedules, backend=backend, interval=seconds))
        if mirrors := mirror_queues(self.catalog):
            services.append(DeadLetterMirror(backend, mirrors, random=self._random))
        if self._telemetry is not None and self._telemetry.meter is not None:
            services.append(QueueGauge(backend, rules.queues_of(self.catalog), clock=self._clock, random=self._random))
        return services

    # Working ------------------------------------------------------------------------------------------------------------------------

    @overload
    def worker(self, *, processes: None = None, **options: Unpack[WorkerOptions]) -> JobWorker: ...
    @overload
    def worker(self, *, processes: int, **options: Unpack[WorkerOptions]) -> WorkerProcesses: ...
    def worker(self, *, processes: int | None = None, **options: Unpack[WorkerOptions]) -> JobWorker | WorkerProcesses:
        """A worker: `await worker.run()`, or `async with app.worker():` to have it in the background.

        options: see WorkerOptions. processes: make so many processes that run it, each with these options; they import
        the application, see `import_path`.
        Default: it runs in this one.

        Made on the event loop that it runs on. Raises InvalidOption for a queue that no job type goes to, and when
        there is no handler at all; with `processes` also for `deps`, and where no other process can import the
        application.
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
        health = self._health_of_processes(rules)
        return WorkerProcesses(import_path=path, processes=processes, rules=rules, clock=self._clock, health=health)

    def operations_worker(self) -> JobWorker:
        """A worker of bulk operations and of nothing else, for a process that is not there to run jobs, such as a web
        server. Run and ended as any worker.
        """
        idle = Upkeep(reconcile_every=None, expire_every=None, install_every=None, purge_every=None)
        return self.worker(queues=[OPERATIONS_QUEUE], concurrency=1, upkeep=idle)

    def worker_by(self, rules: WorkerRules, *, deps: Any = None) -> JobWorker:
        """The worker of these rules, for this process. deps: as in WorkerOptions."""
        backend = self._backend()
        alerts = Alerts(self._on_alert, redact=self._redact)
        watch = self._alert_watch(backend, alerts)
        services = self._services(backend, rules, alerts)
        return JobWorker(
            backend=backend,
            rules=rules,
            services=services if watch is None else [*services, watch],
            alerts=alerts,
            deps=self._deps if deps is None else deps,
            redact=self._redact,
            health=self._health_of_worker(rules),
        )

    def _alert_watch(self, backend: Backend, alerts: Alerts) -> AlertWatch | None:
        """What looks by the rules; None where there are none."""
        if not self._alert_rules:
            return None
        return AlertWatch(
            backend,
            self._alert_rules,
            self._alert_sinks,
            application=self.name,
            readings=self.readings,
            alerts=alerts,
        )

    def _health_of_worker(self, rules: WorkerRules) -> WorkerHealth | None:
        if rules.health_port is None and rules.health_socket is None:
            return None
        from taurine.observe.health_port import WorkerHealth  # an HTTP server, which most processes do without

        if rules.health_port is None:
            return WorkerHealth(self, Path(str(rules.health_socket)), token=None)
        return WorkerHealth(self, (rules.health_host, rules.health_port), token=rules.metrics_token)

    def _health_of_processes(self, rules: WorkerRules) -> ProcessesHealth | None:
        if rules.health_port is None:
            return None
        from taurine.observe.health_port import ProcessesHealth  # as above

        return ProcessesHealth(self, (rules.health_host, rules.health_port), token=rules.metrics_token)

    async def migrate(self) -> MigrationReport:
        """Bring the ledger's tables to this version's; safe to repeat, and in several processes at once."""
        backend = self._backend()
        if self.settings.database_url is None:
            self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return await migrate(backend.database)

    async def compare(self) -> Divergence:
        """Count where the records and the queues disagree, changing nothing; at rest all is 0.

        Reads every open record and every job in line.

        Raises LedgerUnavailable, StoreUnavailable, StoreRefused.
        """
        backend = self._backend_for("compare")
        await backend.ready()
        return await compare(backend)

    @property
    def loops(self) -> builtins.list[asyncio.AbstractEventLoop]:
        """The event loops on which something is open, that of calls for code without one included."""
        return self._backends.loops

    @property
    def heartbeats(self) -> builtins.list[Heartbeat]:
        """When each of Taurine's own loops on this event loop has turned last, and by when it is to turn again: that of
        live changes, the outbox, and those of the workers that run here.
        """
        return self._backends.heartbeats

    # Opening and closing --------------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close what this event loop, and the calls for code without one, have opened."""
        await self._backends.close()

    def close_sync(self) -> None:
        """Close what the calls for code without an event loop have opened."""
        self._backends.close_sync()

    async def open(self) -> None:
        """Make ready what this event loop needs, and hand over, in the background, what could not be handed over at
        once; safe to repeat. `async with app` does so, and closes everything at the end.

        A database that does not answer is told to the log and not raised: each call says so again. Raises InvalidOption
        for settings that do not go together.
        """
        if self.stand_ins.here() is not None:
            return
        backend = self._backend()
        try:
            await backend.ready()
        except LedgerError as error:
            # A web server starts before its database, and `migrate` may be the first thing that the block does.
            log.warning("%s starts without its ledger: %s", self.name, error)
        backend.outbox.start()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _backend(self) -> Backend:
        """What is open on this event loop."""
        return self._backends.here()


def _milliseconds(time: float | datetime | None) -> int | None:
    return None if time is None else timestamp_ms(time)
