"""Looking an application's surroundings over: settings, both servers, the disk, and whether anybody works on its
queues.

Each finding says what was seen, whether that is well, and what to do where it is not. Nothing is changed, and nothing
that does not answer holds up the rest for long.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal, Protocol, TypeAlias
from urllib.parse import urlsplit

from sqlalchemy import Connection

from taurine.errors import EmbeddedServerError, LedgerError, SchemaMismatch, StoreError, TaurineError
from taurine.jobs.backend import Backend
from taurine.jobs.operations.queues import Queues, QueueView
from taurine.jobs.operations.slots import at_work, late_loops_of, of_users, slots_of
from taurine.jobs.operations.workers import LATE_AFTER, WorkerView, worker_view
from taurine.jobs.reporting.durations import seconds_text
from taurine.ledger.migrate import schema_version
from taurine.ledger.queued_types import QueuedType, queued_types
from taurine.ledger.running import Run, runs_before
from taurine.ledger.schema import VERSION
from taurine.ledger.workers import list_workers
from taurine.queue.server_check import parse_info, server_warnings
from taurine.urls import masked_url

__all__ = ["Diagnosis", "Finding", "Level", "open_to_the_world"]

Level: TypeAlias = Literal["ok", "warn", "fail"]

_ANSWER_SECONDS = 6.0
"""Seconds that one check may take: a little more than a busy database has."""

_SKEW_SECONDS = 1.0
"""Clocks may differ by so much before it is worth a word; schedules and ages are told by them."""

_LITTLE_SPACE, _NO_SPACE = 1 << 30, 100 << 20
"""Bytes that are free below which the disk is a worry, and a failure."""

_FULL = 0.8
"""The share of `maxmemory` above which it is a worry."""

_TYPES_NAMED = 10
"""Anybody may make up names of types: so many are named, those with most jobs."""

_STUCK_SECONDS = 60.0
"""A job that has been due for so long while nobody works on its queue is stuck."""

_HELD_SECONDS = 300.0
"""Runs that last for so long, while jobs wait for the slots that they hold, may never end."""

_RUNS_NAMED = 3
"""Of those, so many are named: those that last longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check has seen.

    level: "ok", "warn" for what may go wrong, "fail" for what does. remedy: what to do. details: the same as plain
    JSON.
    """

    check: str
    level: Level
    text: str
    remedy: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict[str, Any])


class ScheduleSeen(Protocol):
    """What is asked of a schedule: see `ScheduleInfo`."""

    @property
    def id(self) -> str: ...
    @property
    def queue(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def next_run(self) -> datetime | None: ...
    @property
    def declared(self) -> bool: ...


class Diagnosis:
    """The checks of one application on one event loop."""

    def __init__(
        self, backend: Backend, *, queues: Queues, schedules: Callable[[], Awaitable[Sequence[ScheduleSeen]]]
    ) -> None:
        self._backend = backend
        self._schedules = schedules
        self._settings = backend.settings
        self._queues = queues

    async def findings(self) -> list[Finding]:
        """All findings, in an order to read them in. Never raises for a server that does not answer."""
        found = [self._about_programs(), self._about_settings()]
        records = await self._in_time("records", self._about_records)
        found += records
        found += await self._in_time("queues", self._about_server)
        found += [self._about_disk()]
        if all(finding.level != "fail" for finding in records):
            found += await self._in_time("work", self._about_work)
        return found

    async def _in_time(self, check: str, look: Callable[[], Awaitable[Sequence[Finding]]]) -> Sequence[Finding]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await look()
        except TimeoutError:
            text = f"no answer within {_ANSWER_SECONDS:g} s"
            return [Finding(check=check, level="fail", text=text, remedy="see whether the server is up and reachable")]
        except TaurineError as error:
            return [Finding(check=check, level="fail", text=str(error), remedy=_remedy_of(error))]

    # What is here -----------------------------------------------------------------------------------------------------------------------

    def _about_programs(self) -> Finding:
        versions = {"taurine": version("taurine"), "python": platform.python_version(), "system": platform.platform()}
        return Finding(
            check="versions",
            level="ok",
            text=f"taurine {versions['taurine']}, Python {versions['python']}, {versions['system']}",
            details=versions,
        )

    def _about_settings(self) -> Finding:
        settings = self._settings
        used = {
            "env": settings.env,
            "redis_url": "embedded" if settings.redis_url is None else masked_url(settings.redis_url),
            "database_url": "sqlite" if settings.database_url is None else masked_url(settings.database_url),
            "home": str(settings.home.absolute()),
            "prefix": settings.prefix,
            "concurrency": settings.concurrency,
            "lease": settings.lease,
            "cron_secret": "not set" if settings.cron_secret is None else "set",
            "log_format": settings.log_format,
        }
        text = ", ".join(f"{name} {value}" for name, value in used.items())
        if settings.env == "production" and settings.redis_url is None:
            return Finding(
                check="settings", level="fail", text=text, details=used,
                remedy="set TAURINE_REDIS_URL: in production each machine would have private queues",
            )  # fmt: skip
        return Finding(check="settings", level="ok", text=text, details=used)

    def _about_disk(self) -> Finding:
        home = self._settings.home.absolute()
        place = next((folder for folder in (home, *home.parents) if folder.exists()), home)
        free = shutil.disk_usage(place).free
        text, details = f"{free / (1 << 30):,.1f} GiB free at {home}", {"free_bytes": free, "path": str(home)}
        if free >= _LITTLE_SPACE:
            return Finding(check="disk", level="ok", text=text, details=details)
        level: Level = "fail" if free < _NO_SPACE else "warn"
        return Finding(
            check="disk", level=level, text=text, remedy="free some space there, or set TAURINE_HOME", details=details
        )

    # The records ------------------------------------------------------------------------------------------------------------------------

    async def _about_records(self) -> Sequence[Finding]:
        database = self._backend.database
        where = database.url.render_as_string(hide_password=True)
        if self._settings.database_url is None and not (self._settings.home / "taurine.db").exists():
            return [
                Finding(
                    check="records", level="ok", details={"url": where, "version": None},
                    text=f"{where} is not there yet; the first call makes it",
                )
            ]  # fmt: skip
        clock = self._backend.clock
        started = clock.monotonic()
        found, server = await database.read(lambda connection: (schema_version(connection), _server_of(connection)))
        latency = clock.monotonic() - started
        details = {"url": where, "server": server, "version": found, "latency_ms": round(latency * 1000, 1)}
        reachable = Finding(
            check="records", level="ok", text=f"{server} at {where} answers in {latency * 1000:.1f} ms", details=details
        )
        return [reachable, self._about_tables(found)]

    def _about_tables(self, found: str | None) -> Finding:
        details = {"found": found, "expected": VERSION}
        if found == VERSION:
            return Finding(check="tables", level="ok", text=f"at version {found}", details=details)
        there = "not there" if found is None else f"at version {found}, and this program works with {VERSION}"
        if found is not None and found > VERSION:
            remedy = "install the newer Taurine: there is no way back"
        elif self._settings.env == "dev" or self._backend.database.url.get_backend_name() == "sqlite":
            return Finding(
                check="tables", level="warn", text=there, details=details, remedy="the first call makes them"
            )
        else:
            remedy = "run `taurine migrate`"
        return Finding(check="tables", level="fail", text=there, details=details, remedy=remedy)

    # The server of queues -----------------------------------------------------------------------------------------------------------------

    async def _about_server(self) -> Sequence[Finding]:
        connection, clock = await self._backend.connection(), self._backend.clock
        started, wall = clock.monotonic(), clock.now()
        seconds, microseconds = await connection.call("TIME")
        latency = clock.monotonic() - started
        skew = int(seconds) + int(microseconds) / 1e6 - (wall + latency / 2)
        try:
            info = parse_info((await connection.call("INFO", "everything")).decode("utf-8", "replace"))
        except StoreError:  # without the right to ask
            info = {}
        warnings = await server_warnings(connection)
        kind = "Valkey" if "valkey_version" in info else "Redis"
        number = info.get("valkey_version", info.get("redis_version", "of an unknown version"))
        given = self._settings.redis_url
        url = f"private, in {self._settings.home}" if given is None else masked_url(given)
        where = f", {url}," if given is None else f" at {url}"
        old = next((warning for warning in warnings if "maxmemory-policy" not in warning), None)
        return [
            Finding(
                check="queues",
                level="ok" if old is None else "warn",
                text=f"{kind} {number}{where} answers in {latency * 1000:.1f} ms",
                remedy=old,
                details={"server": kind.lower(), "version": number, "url": url, "latency_ms": round(latency * 1000, 1)},
            ),
            *open_to_the_world(given),
            _about_clock(skew),
            *([_about_memory(info), _about_persistence(info)] if info else []),
        ]

    # Those who work on them ---------------------------------------------------------------------------------------------------------------

    async def _about_work(self) -> Sequence[Finding]:
        if not len(self._backend.catalog):
            return [
                Finding(
                    check="workers", level="warn", text="no application was named, so its queues are not known",
                    remedy="name it: taurine --app module:name doctor, or TAURINE_APP",
                )
            ]  # fmt: skip
        views = [view for view in await self._queues.list() if view.declared]
        now = self._backend.clock.now()
        workers, held = await self._backend.database.read(
            lambda connection: (
                [worker_view(row, round(now * 1000)) for row in list_workers(connection)],
                runs_before(connection, round((now - _HELD_SECONDS) * 1000)),
            )
        )
        workers = of_users(workers, self._backend.catalog.system_queues)
        found = [*map(_about_workers, views)]
        for view in views:
            found += self._about_slots(view, workers, held, now)
        found += _about_late(workers, views, now)
        found += [_about_delivery(views), _about_dead_letters(views)]
        queued = await self._backend.database.read(queued_types)
        found += _about_types([one for one in queued if self._backend.catalog.find(one.type) is None])
        paused = {view.name for view in views if view.standing is not None and view.standing.paused}
        return [
            *found,
            *(_about_schedule(schedule, now, paused=schedule.queue in paused) for schedule in await self._schedules()),
        ]

    def _about_slots(
        self, view: QueueView, workers: Sequence[WorkerView], held: Sequence[Run], now: float
    ) -> list[Finding]:
        """A warning where jobs wait while the same runs hold all slots of a queue.

        held: the runs of all queues that last for long.
        """
        working = None if view.standing is None else at_work(workers, view.name, view.standing.workers)
        slots, names = (slots_of(working), {one.name for one in working}) if working else (0, set[str]())
        held = [run for run in held if run.queue == view.name and run.worker in names]
        if not slots or len(held) < slots or view.oldest_waiting is None:
            return []
        # The last of them to begin took the last slot.
        for_seconds = now - held[slots - 1].started_at / 1000
        longest = [
            (self._backend.redact.job_id(run.id), run.worker, round(now - run.started_at / 1000, 1))
            for run in held[:_RUNS_NAMED]
        ]
        named = ", ".join(f"{job_id} on {worker} for {seconds_text(seconds)}" for job_id, worker, seconds in longest)
        number = "the only slot is" if slots == 1 else f"all {slots:,} slots are"
        return [
            Finding(
                check=f"slots {view.name}",
                level="warn",
                text=f"{number} taken by the same runs for {seconds_text(for_seconds)}, while jobs wait; longest by {named}",
                remedy="cancel those that hang with `taurine cancel ID`, give their types a `timeout=`, "
                "or run workers with more `--concurrency`",
                details={
                    "slots": slots,
                    "seconds": round(for_seconds, 1),
                    "longest": [dict(zip(("id", "worker", "seconds"), run, strict=True)) for run in longest],
                },
            )
        ]


def _server_of(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        number = connection.exec_driver_sql("select sqlite_version()").scalar()
        mode = connection.exec_driver_sql("pragma journal_mode").scalar()
        return f"SQLite {number} ({mode})"
    return f"PostgreSQL {connection.exec_driver_sql('show server_version').scalar()}"


def _remedy_of(error: TaurineError) -> str:
    if isinstance(error, SchemaMismatch):
        return "run `taurine migrate`"
    if isinstance(error, LedgerError):
        return "see whether the database is up, and what TAURINE_DATABASE_URL says"
    if isinstance(error, EmbeddedServerError):
        return 'pip install "taurine[embedded]", or name a server with TAURINE_REDIS_URL'
    return "see whether the server is up, and what TAURINE_REDIS_URL says"


def _about_clock(skew: float) -> Finding:
    details = {"seconds": round(skew, 3)}
    if abs(skew) < _SKEW_SECONDS:
        return Finding(
            check="clock", level="ok", text=f"{abs(skew) * 1000:.0f} ms apart from the server's", details=details
        )
    side = "behind" if skew > 0 else "ahead of"
    return Finding(
        check="clock", level="warn", text=f"{abs(skew):.1f} s {side} the server's", details=details,
        remedy="let a time service set both clocks: delays and schedules are told by them",
    )  # fmt: skip


def open_to_the_world(redis_url: str | None) -> list[Finding]:
    """A warning, where the server is on another machine and asks for no password."""
    if redis_url is None or redis_url.startswith("unix:"):
        return []
    parts = urlsplit(redis_url)
    host = parts.hostname or "localhost"
    if parts.password or host in ("localhost", "::1") or host.startswith("127."):
        return []
    return [
        Finding(
            check="queues_access",
            level="warn",
            text=f"the server at {masked_url(redis_url)} asks this program for no password",
            remedy="give it users with a password, as SECURITY.md shows: whoever reaches it may read and change every job",
            details={"host": host},
        )
    ]


def _about_memory(info: Mapping[str, str]) -> Finding:
    policy, most = info.get("maxmemory_policy", "noeviction"), int(info.get("maxmemory", "0"))
    used = int(info.get("used_memory", "0"))
    share = used / most if most else 0.0
    details = {"policy": policy, "maxmemory": most, "used": used}
    text = f"{used / (1 << 20):,.1f} MiB used" + (f" of {most / (1 << 20):,.0f}" if most else "") + f", policy {policy}"
    if policy != "noeviction":
        remedy = "set `maxmemory-policy noeviction` on the server: another policy deletes jobs when memory is full"
        return Finding(check="memory", level="fail", text=text, remedy=remedy, details=details)
    if share > _FULL:
        remedy = "raise maxmemory, or keep fewer finished jobs: a full server accepts none"
        return Finding(check="memory", level="warn", text=text, remedy=remedy, details=details)
    return Finding(check="memory", level="ok", text=text, details=details)


def _about_persistence(info: Mapping[str, str]) -> Finding:
    appends = info.get("aof_enabled") == "1"
    details = {
        "aof": appends,
        "aof_last_write": info.get("aof_last_write_status"),
        "rdb_last_save": info.get("rdb_last_bgsave_status"),
    }
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        text, remedy = "the server could not write its data", "see the server's log; its disk may be full"
        return Finding(check="persistence", level="fail", text=text, remedy=remedy, details=details)
    if not appends:
        return Finding(
            check="persistence", level="warn", text="the server keeps no append-only file", details=details,
            remedy="set `appendonly yes`: without it a crash takes the queues with it, and the records put them back",
        )  # fmt: skip
    return Finding(check="persistence", level="ok", text="append-only file", details=details)


def _about_workers(view: QueueView) -> Finding:
    check = f"queue {view.name}"
    if view.standing is None:
        return Finding(
            check=check, level="fail", text=view.error or "no answer", remedy="see the line about queues above"
        )
    workers, waits = view.standing.workers, view.oldest_waiting or 0.0
    details = {
        "workers": None if workers is None else len(workers),
        "paused": view.standing.paused,
        "oldest_waiting": view.oldest_waiting,
    }
    seen = "workers unknown: the server does not let us ask" if workers is None else f"{len(workers)} connected"
    oldest = f", the oldest job waits for {seconds_text(waits)}" if waits >= 1 else ""
    if view.standing.paused:
        remedy = f"`taurine queues resume {view.name}` when it may go on"
        return Finding(check=check, level="warn", text=f"paused; {seen}{oldest}", remedy=remedy, details=details)
    if workers is not None and not workers:
        level: Level = "fail" if waits >= _STUCK_SECONDS else "warn"
        remedy = f"start one: `taurine worker --queue {view.name}`"
        return Finding(check=check, level=level, text=f"nobody works on it{oldest}", remedy=remedy, details=details)
    return Finding(check=check, level="ok", text=f"{seen}{oldest}", details=details)


def _about_late(workers: Sequence[WorkerView], views: Sequence[QueueView], now: float) -> list[Finding]:
    """A warning for each worker that is late to tell of itself, or told of late loops."""
    on_time = {view.name for view in workers if now - view.seen_at.timestamp() <= LATE_AFTER}
    found: list[Finding] = []
    for view in workers:
        silent, loops = now - view.seen_at.timestamp(), late_loops_of(view)
        if view.state == "stopped" or (silent <= LATE_AFTER and not loops):
            continue
        if view.state == "lost" and (view.name in on_time or _is_gone(view, views)):
            continue  # others do what it did
        seen = f"last told of itself {seconds_text(silent)} ago" if silent > LATE_AFTER else "tells of itself"
        if loops:
            seen += f", and told that these of its loops do not turn: {', '.join(loops)}"
        found.append(
            Finding(
                check=f"worker {view.name}",
                level="warn",
                text=f"on {view.host}, process {view.pid}: {seen}",
                remedy="a handler that blocks its event loop, or a database that it cannot reach: see its log, "
                'and give handlers that block `runs_in="thread"` or `"process"`',
                details={"seen_at": view.seen_at.isoformat(), "late_loops": loops, "state": view.state},
            )
        )
    return found


def _is_gone(worker: WorkerView, views: Sequence[QueueView]) -> bool:
    """Whether each server that can tell says that it is not connected, and one can."""
    connected = [
        view.standing.workers
        for view in views
        if view.name in worker.queues and view.standing is not None and view.standing.workers is not None
    ]
    return bool(connected) and all(one.name != worker.name for workers in connected for one in workers)


def _about_delivery(views: Sequence[QueueView]) -> Finding:
    waiting = sum(view.undelivered for view in views)
    details = {"undelivered": waiting}
    if not waiting:
        return Finding(check="outbox", level="ok", text="every accepted job was handed over", details=details)
    remedy = "a running worker, or any process of the application, hands them over; look again in a minute"
    return Finding(
        check="outbox",
        level="warn",
        text=f"{waiting:,} accepted jobs are not in their queues yet",
        remedy=remedy,
        details=details,
    )


def _about_types(undeclared: Sequence[QueuedType]) -> list[Finding]:
    """A warning for types that are queued and not declared here, if any are; another program may declare them."""
    if not undeclared:
        return []
    named = [f"{one.number:,} of type {one.type!r} in queue {one.queue!r}" for one in undeclared[:_TYPES_NAMED]]
    if len(undeclared) > _TYPES_NAMED:
        named.append(f"{sum(one.number for one in undeclared[_TYPES_NAMED:]):,} of others")
    return [
        Finding(
            check="types",
            level="warn",
            text=f"queued, and of types that this application does not declare: {', '.join(named)}",
            remedy="start a worker of the version that declares them, or cancel them: "
            "others hand them back, and give them up in the end",
            details={"undeclared": [one._asdict() for one in undeclared[:_TYPES_NAMED]]},
        )
    ]


def _about_schedule(schedule: ScheduleSeen, now: float, *, paused: bool) -> Finding:
    """paused: whether its queue is."""
    check = f"schedule {schedule.id}"
    at = schedule.next_run
    details = {"next_run": None if at is None else at.isoformat(), "declared": schedule.declared}
    if at is None:
        remedy = "a worker installs it at its start: start one"
        return Finding(
            check=check, level="warn", text=f"{schedule.text}; not installed", remedy=remedy, details=details
        )
    if not schedule.declared:
        remedy = f"`taurine schedules remove {schedule.id}` ends it"
        return Finding(check=check, level="warn", text="not declared any more", remedy=remedy, details=details)
    late = now - at.timestamp()
    if late > _STUCK_SECONDS:
        text = f"{schedule.text}; its tick is {seconds_text(late)} late"
        if paused:
            text += f", and its queue {schedule.queue!r} is paused"
            remedy = f"`taurine queues resume {schedule.queue}` when it may go on"
            return Finding(check=check, level="warn", text=text, remedy=remedy, details=details)
        return Finding(check=check, level="fail", text=text, remedy="start a worker for its queue", details=details)
    return Finding(check=check, level="ok", text=f"{schedule.text}; next {at:%Y-%m-%d %H:%M:%S %Z}", details=details)


def _about_dead_letters(views: Sequence[QueueView]) -> Finding:
    number = sum(view.dead_letters for view in views)
    details = {"open": number}
    if not number:
        return Finding(check="dead letters", level="ok", text="none", details=details)
    text = f"{number:,} that nobody has dealt with"
    return Finding(
        check="dead letters", level="warn", text=text, remedy="look at them with `taurine dead`", details=details
    )
