"""Job schedulers: jobs that come back by an interval or a pattern.

A scheduler is a record, and one job: its next run, which waits in the queue like any other. Whoever claims that run
makes the one after it (`advance`), here or on Node, so there is no timer process that could die, and a queue that is
behind gathers no backlog of runs:
those that fall due while one waits are skipped.

`upsert` writes the record and arms a run; everything that must not be torn apart is in its script. What a pattern's
next time is, is worked out here and handed to the scripts.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeAlias, TypedDict

from taurine.errors import (
    InvalidName,
    InvalidOption,
    PayloadTooLarge,
    SchedulerError,
    SchedulerIdTaken,
    SchedulerSlotsTaken,
    StoreError,
    did_you_mean,
)
from taurine.ids import public_id
from taurine.options import JobTelemetry, Keep, Seconds, to_milliseconds, to_seconds
from taurine.queue.adding import NewJob
from taurine.queue.cron import CronPattern, next_fire
from taurine.queue.job import Job
from taurine.queue.scripts import Argument
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import APPLICATION_MEMBER, JobOptions, parse_options, plan
from taurine.queue.wire import decode_json, encode_json
from taurine.retry import Backoff

__all__ = [
    "Schedule",
    "ScheduleStrategy",
    "Scheduler",
    "TemplateOptions",
    "advance",
    "check_scheduler_id",
    "count",
    "get",
    "read",
    "remove",
    "template_defaults",
    "upsert",
]

log = logging.getLogger("taurine.queue")

_MAX_ID_BYTES = 512
_LATEST = 2**41 / 1000
"""Seconds since 1970; the due time of a delayed job is exact up to here (2039)."""
_RUN_NUMBER_BEGINS = 10**11
"""Milliseconds since 1970 (in 1973): a scheduler id that ends in a colon and a larger number would be the id of a run."""

_NOT_ARMED, _SLOT_TAKEN, _SLOTS_TAKEN, _NO_RUN_LEFT = 0, -10, -11, -12
_MOST_TIMES = 1024
"""Times of a pattern that are tried for one run, when jobs stand under the ids of those before."""


class TemplateOptions(TypedDict, total=False):
    """Options of every job that a scheduler makes, as in AddOptions.

    A run's id, delay and creation time are the scheduler's own; parents and deduplication make no sense for a job that
    comes back.
    """

    priority: int
    attempts: int
    backoff: Backoff | Seconds
    lifo: bool
    size_limit: int
    keep_logs: int
    stacktrace_limit: int
    remove_on_complete: bool | int | Keep
    remove_on_fail: bool | int | Keep
    telemetry: JobTelemetry
    application: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the runs of a scheduler are due: by an interval (`every`) or a pattern. None where nothing is given."""

    every: float | None = None
    """Seconds from one run to the next."""
    pattern: str | None = None
    """A cron pattern, or what the queue's own strategy understands."""
    tz: str | None = None
    """Name of the time zone that the pattern is in; None: that of the machine which computes the run."""
    start: float | None = None
    """Wall seconds before which no run is due."""
    end: float | None = None
    """Wall seconds after which no run is due."""
    limit: int | None = None
    """Runs in all, counted from the latest upsert."""
    offset: float | None = None
    """Seconds by which the runs of an interval come after its multiples since 1970."""

    @classmethod
    def checked(
        cls,
        *,
        every: Seconds | None = None,
        pattern: str | None = None,
        tz: str | None = None,
        start: float | datetime | None = None,
        end: float | datetime | None = None,
        limit: int | None = None,
        offset: Seconds | None = None,
    ) -> Schedule:
        """A schedule from what a caller gives. Raises InvalidOption."""
        if (every is None) == (pattern is None):
            given = "neither" if every is None else "both"
            raise InvalidOption(
                f"expected either every or pattern, got {given}; every=60.0 is an interval, pattern='0 9 * * *' a cron pattern"
            )
        if pattern is not None and (not isinstance(pattern, str) or not pattern.strip()):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected pattern to be text such as '0 9 * * *', got {pattern!r:.40}")
        if every is not None and tz is not None:
            raise InvalidOption("tz is for a pattern; an interval is the same in every time zone")
        if offset is not None and every is None:
            raise InvalidOption("offset is for every; a pattern says itself at which second, minute or hour")
        if offset is not None and start is not None:
            raise InvalidOption("offset and start both say where an interval begins; give one of them")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected limit to be a whole number from 1, got {limit!r:.40}")
        schedule = cls(
            every=None if every is None else to_seconds(every, "every", minimum=0.001),
            pattern=pattern,
            tz=tz,
            start=_instant(start, "start"),
            end=_instant(end, "end"),
            limit=limit,
            offset=None if offset is None else to_seconds(offset, "offset"),
        )
        if schedule.offset is not None and schedule.every is not None and schedule.offset >= schedule.every:
            raise InvalidOption(f"expected offset to be less than every, {schedule.every:g} s, got {schedule.offset:g}")
        if schedule.start is not None and schedule.end is not None and schedule.start >= schedule.end:
            raise InvalidOption("expected start to be before end; the series has no run otherwise")
        return schedule

    @classmethod
    def stored(cls, repeat: Mapping[str, Any]) -> Schedule:
        """The schedule in a job's `repeat` option, or in a scheduler's record. Raises ValueError for what is none."""
        limit = repeat.get("limit")
        return cls(
            every=_seconds(repeat.get("every")),
            pattern=repeat.get("pattern") or None,
            tz=repeat.get("tz") or None,
            start=_seconds(repeat.get("startDate")),
            end=_seconds(repeat.get("endDate")),
            limit=None if limit in (None, "") else int(limit),
            offset=_seconds(repeat.get("offset")),
        )

    def wire(self) -> dict[str, Any]:
        """The `repeat` option of a run: BullMQ's names, milliseconds."""
        members = {
            "every": _ms(self.every),
            "pattern": self.pattern,
            "tz": self.tz,
            "startDate": _ms(self.start),
            "endDate": _ms(self.end),
            "limit": self.limit,
            "offset": _ms(self.offset),
        }
        return {name: value for name, value in members.items() if value is not None}


ScheduleStrategy: TypeAlias = Callable[[float, Schedule], float | None]
"""Finds the next run of a pattern that is not cron (an RRULE, a calendar of one's own).

Called with a wall time in seconds and the schedule; returns the first time after that one, or None when none is left.
It serves every pattern of the queue: for those that are cron it may return `next_fire(schedule.pattern, after=…,
tz=schedule.tz)`.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """A job scheduler as it is stored. Times are wall seconds."""

    id: str
    name: str
    """The name of the jobs it makes."""
    next_at: float
    """When the next run is due. In the past: it waits for a worker, or the series has ended."""
    next_job_id: str | None
    """The job that is the next run. None: the series has ended, or the job was lost, which an upsert repairs."""
    schedule: Schedule
    iterations: int
    """Runs armed since the scheduler was made, over all its changes."""
    data: Any
    """The data of every job."""
    options: JobOptions
    """The options of every job."""

    @property
    def every(self) -> float | None:
        return self.schedule.every

    @property
    def pattern(self) -> str | None:
        return self.schedule.pattern

    @property
    def tz(self) -> str | None:
        return self.schedule.tz

    @property
    def start(self) -> float | None:
        return self.schedule.start

    @property
    def end(self) -> float | None:
        return self.schedule.end

    @property
    def limit(self) -> int | None:
        return self.schedule.limit

    @property
    def offset(self) -> float | None:
        return self.schedule.offset


# Changing -------------------------------------------------------------------------------------------------------------------


async def upsert(
    store: QueueStore,
    scheduler_id: str,
    schedule: Schedule,
    *,
    immediately: bool = False,
    name: str | None = None,
    data: Any = None,
    options: Mapping[str, Any],
    strategy: ScheduleStrategy | None = None,
) -> Job:
    """Create a scheduler, or change it; returns its next run. `Queue.upsert_scheduler` has the rules."""
    check_scheduler_id(scheduler_id)
    _check_beginning(schedule, immediately)
    now = store.now_ms()
    if schedule.end is not None and schedule.end * 1000 <= now:
        raise InvalidOption("expected end to be in the future, got a time that has passed")
    if name is not None and (not isinstance(name, str) or not name):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidName(f"expected a job name, got {name!r:.80}")
    name = name or scheduler_id
    data = {} if data is None else data
    template, priority, data_text = _template(options, data, store.keys.prefix)
    wire = schedule.wire()

    times: Iterator[int] = iter(())
    if schedule.pattern is not None:
        times = _times_after(max(now, wire.get("startDate", 0)), schedule, strategy)
        if immediately:
            times = chain((now,), times)
    arguments: list[Argument] = [
        now,
        scheduler_id,
        name,
        data_text,
        f"{{{template}}}",
        _options_head(template, {**wire, "count": 1}, scheduler_id, now),
        priority,
        "1" if options.get("lifo") else "",
        *(wire.get(member, "") for member in ("every", "offset", "pattern", "tz", "startDate", "endDate", "limit")),
    ]
    reply = await _arm(store, "upsert_scheduler", arguments, scheduler_id=scheduler_id, schedule=schedule, times=times)
    if reply == _NO_RUN_LEFT:
        raise InvalidOption("the schedule has no run: none is due before its end; the scheduler was not changed")
    raw_id, options_text, delay_ms = reply
    stored_id = raw_id.decode()
    new = NewJob(stored_id, name, data, data_text, options_text.decode(), now, delay_ms, priority, extras="")
    job = Job.new(store, new)
    job.scheduler_id = scheduler_id
    return job


async def advance(store: QueueStore, job: Job, *, strategy: ScheduleStrategy | None = None) -> str | None:
    """Make the run after `job`, which a worker has just claimed; returns its id.

    Returns None when nothing is to be made: the job is no scheduler's, or it is not the armed run (a retry, a
    redelivery, a scheduler that was removed or changed meanwhile), or the series has ended. Safe to repeat, also after
    a lost reply. One script call, and another only when jobs stand under the ids of the next times.

    Raises SchedulerError when the next time cannot be worked out, since the job's schedule is unreadable, its pattern
    is not of this dialect, or `strategy` failed: the job stays the armed run, so the schedule goes on when it is run
    again or the scheduler is upserted. Raises StoreUnavailable and StoreRefused.
    """
    scheduler_id = job.scheduler_id
    repeat = job.options.repeat
    if scheduler_id is None or not repeat:
        return None
    try:
        return await _advance(store, job, scheduler_id, repeat, strategy)
    except (StoreError, SchedulerError):
        raise
    except Exception as error:  # another program's text and the caller's strategy: either may fail in any way
        what = f"cannot be advanced: {error}; upsert it to start it again"
        raise _error(SchedulerError, store, scheduler_id, what) from error


async def _advance(
    store: QueueStore, job: Job, scheduler_id: str, repeat: Mapping[str, Any], strategy: ScheduleStrategy | None
) -> str | None:
    schedule = Schedule.stored(repeat)
    runs = int(repeat.get("count") or 0) + 1
    now = store.now_ms()
    if schedule.limit is not None and runs > schedule.limit:
        return None
    stored = job.stored_options()
    previous = stored.get("prevMillis") or 0
    template = _template_of_run(stored)
    times: Iterator[int] = iter(())
    if schedule.every is None:
        times = _times_after(max(now, int(previous)), schedule, strategy)
    dedup = stored.get("de")
    arguments: list[Argument] = [
        now,
        scheduler_id,
        job.stored_id,
        _options_head(template, {**repeat, "count": runs}, scheduler_id, now),
        job.options.priority,
        "1" if job.options.lifo else "",
        str(dedup["id"]) if dedup else "",
        "" if schedule.every is None else _ms(schedule.every) or 1,
        "" if schedule.end is None else _ms(schedule.end) or 0,
    ]
    reply = await _arm(store, "advance_scheduler", arguments, scheduler_id=scheduler_id, schedule=schedule, times=times)
    return None if reply in (_NOT_ARMED, _NO_RUN_LEFT) else public_id(reply.decode())


async def remove(store: QueueStore, scheduler_id: str) -> bool:
    """End a schedule; False when there is none of this id."""
    return bool(await store.run("remove_scheduler", store.now_ms(), scheduler_id))


async def _arm(
    store: QueueStore,
    script: str,
    arguments: list[Argument],
    *,
    scheduler_id: str,
    schedule: Schedule,
    times: Iterator[int],
) -> Any:
    """Run a script that arms a run, offering it a pattern's later times as long as jobs stand under the ids of the
    earlier ones.
    """
    if schedule.pattern is None:
        reply = await store.run(script, *arguments)
        if reply == _SLOTS_TAKEN:
            raise _error(
                SchedulerSlotsTaken,
                store,
                scheduler_id,
                "has jobs under the ids of its next 1,000 runs; clean the finished ones",
            )
        return reply
    offered = list(islice(times, 1))
    tried = 0
    while offered:
        reply = await store.run(script, *arguments, *offered)
        if reply != _SLOT_TAKEN:
            return reply
        tried += len(offered)
        if tried > _MOST_TIMES:
            raise _error(
                SchedulerIdTaken,
                store,
                scheduler_id,
                f"has jobs under the ids of its next {tried} runs; clean the finished ones",
            )
        offered = list(islice(times, 64))
    return _NO_RUN_LEFT


def _times_after(after_ms: int, schedule: Schedule, strategy: ScheduleStrategy | None) -> Iterator[int]:
    """The times of a pattern after `after_ms` and up to the schedule's end, in milliseconds."""
    find = strategy or _next_of_cron
    while True:
        found = find(after_ms / 1000, schedule)
        if found is None or (schedule.end is not None and found > schedule.end):
            return
        # Upwards, so that nothing runs early; rounded first, since 1.1 * 1000 is a little more than 1100.
        found_ms = math.ceil(round(found * 1000, 3))
        if found_ms <= after_ms:
            raise InvalidOption(
                f"expected the schedule strategy to return a time after {after_ms / 1000:.3f}, got {found:.3f}"
            )
        yield found_ms
        after_ms = found_ms


_parsed = lru_cache(maxsize=256)(CronPattern.parse)


def _next_of_cron(after: float, schedule: Schedule) -> float | None:
    if schedule.pattern is None:
        raise InvalidOption("the schedule has neither an interval nor a pattern")
    return next_fire(_parsed(schedule.pattern), after=after, tz=schedule.tz)


def check_scheduler_id(scheduler_id: object) -> None:
    """Raise InvalidName for what no scheduler can be called."""
    if not isinstance(scheduler_id, str) or not scheduler_id or not scheduler_id.isprintable():
        raise InvalidName(f"expected a scheduler id to be printable text, got {scheduler_id!r:.80}")
    if (size := len(scheduler_id.encode("utf-8", "replace"))) > _MAX_ID_BYTES:
        raise InvalidName(f"expected a scheduler id to be at most {_MAX_ID_BYTES} bytes, got {size}")
    numbers = (part for part in scheduler_id.split(":")[1:] if part.isdecimal())
    if any(int(number) >= _RUN_NUMBER_BEGINS for number in numbers):
        raise InvalidName(
            f"the scheduler id {scheduler_id!r} looks like the id of a run; put a letter in front of the number in it"
        )


def _check_beginning(schedule: Schedule, immediately: bool) -> None:
    if not immediately:
        return
    for option in ("start", "offset"):
        if getattr(schedule, option) is not None:
            raise InvalidOption(f"immediately and {option} both say when the first run is; give one of them")


# The template -----------------------------------------------------------------------------------------------------------------


def template_defaults(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a queue's default options that a scheduler's jobs can have."""
    return {option: value for option, value in defaults.items() if option in TemplateOptions.__annotations__}


def _template(options: Mapping[str, Any], data: Any, prefix: str) -> tuple[str, int, str]:
    """The members of the stored options (JSON without braces), the priority, and the data as JSON."""
    known = tuple(TemplateOptions.__annotations__)
    for option in options:
        if option not in known:
            hint = did_you_mean(option, known) or f"; known: {', '.join(known)}"
            raise InvalidOption(f"{option!r} is no option of a scheduler's jobs{hint}")
    plain = {option: value for option, value in options.items() if option != "application"}
    meaning = plan(plain, prefix=prefix)
    text = encode_json(data)
    if meaning.size_limit is not None and (size := len(text.encode())) > meaning.size_limit:
        raise PayloadTooLarge(f"job data is {size} bytes of JSON, above the size_limit of {meaning.size_limit}")
    members = meaning.members
    if (application := options.get("application")) is not None:
        members = f'{members},"{APPLICATION_MEMBER}":{application}'.removeprefix(",")
    return members, meaning.priority, text


def _template_of_run(stored: Mapping[str, Any]) -> str:
    """The template's part of a run's stored options, members unknown to Taurine included."""
    own = ("repeat", "repeatJobKey", "jobId", "timestamp", "delay", "prevMillis")
    return encode_json({name: value for name, value in stored.items() if name not in own})[1:-1]


def _options_head(template: str, repeat: Mapping[str, Any], scheduler_id: str, now: int) -> str:
    """A run's options up to its number, which the script knows: `{…,"jobId":"repeat:<scheduler>:`."""
    own = {"repeat": dict(repeat), "repeatJobKey": scheduler_id, "timestamp": now, "jobId": f"repeat:{scheduler_id}:"}
    members = encode_json(own)[1:-1]
    head = f"{{{template},{members}" if template else f"{{{members}"
    return head.removesuffix('"')


# Reading ------------------------------------------------------------------------------------------------------------------


async def read(store: QueueStore, start: int, end: int, *, ascending: bool) -> list[Scheduler]:
    """The schedulers from position `start` to `end` by next run."""
    order = () if ascending else ("REV",)
    flat: list[bytes] = await store.connection.call("ZRANGE", store.keys.schedulers, start, end, *order, "WITHSCORES")
    found = await _read_records(store, list(zip(flat[::2], flat[1::2], strict=True)))
    schedulers: list[Scheduler] = []
    for entry in found:
        if isinstance(entry, Scheduler):
            schedulers.append(entry)
        else:  # one unreadable record must not hide the others
            log.warning("%s; it is left out of the list", entry)
    return schedulers


async def get(store: QueueStore, scheduler_id: str) -> Scheduler | None:
    """One scheduler, or None. Raises SchedulerError for a record that cannot be decoded."""
    score: bytes | None = await store.connection.call("ZSCORE", store.keys.schedulers, scheduler_id)
    if score is None:
        return None
    (entry,) = await _read_records(store, [(scheduler_id.encode(), score)])
    if isinstance(entry, SchedulerError):
        raise entry
    return entry


async def count(store: QueueStore) -> int:
    """How many schedulers there are, ended ones included."""
    return await store.connection.call("ZCARD", store.keys.schedulers)


async def _read_records(store: QueueStore, entries: list[tuple[bytes, bytes]]) -> list[Scheduler | SchedulerError]:
    commands: list[tuple[str, ...]] = []
    for raw_id, score in entries:
        scheduler_id = raw_id.decode("utf-8", "replace")
        run = f"{store.keys.scheduler(scheduler_id)}:{score.decode()}"
        commands += [("HGETALL", store.keys.scheduler(scheduler_id)), ("HMGET", run, "timestamp", "finishedOn")]
    replies = await store.connection.pipeline(commands) if commands else []
    found: list[Scheduler | SchedulerError] = []
    for (raw_id, score), record, run in zip(entries, replies[::2], replies[1::2], strict=True):
        scheduler_id = raw_id.decode("utf-8", "replace")
        try:
            found.append(_decode(scheduler_id, score.decode(), record, pending=run[0] is not None and run[1] is None))
        except (ValueError, TypeError) as error:
            found.append(_error(SchedulerError, store, scheduler_id, f"has a record that cannot be decoded: {error}"))
    return found


def _decode(scheduler_id: str, score: str, flat: list[bytes], *, pending: bool) -> Scheduler:
    record = {name.decode(): value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    schedule = Schedule.stored(record)
    if schedule.every is None:  # a pattern's record says 0, which means nothing
        schedule = replace(schedule, offset=None)
    return Scheduler(
        id=scheduler_id,
        name=record.get("name", scheduler_id),
        next_at=float(score) / 1000,
        next_job_id=f"repeat:{scheduler_id}:{score}" if pending else None,
        schedule=schedule,
        iterations=int(record.get("ic", 0)),
        data=decode_json(record.get("data", "{}")),
        options=parse_options(record.get("opts", "{}")),
    )


# Times --------------------------------------------------------------------------------------------------------------------


def _instant(value: float | datetime | None, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidOption(
                f"expected {name} to be wall seconds or an aware datetime, got a naive one; give it a tzinfo"
            )
        value = value.timestamp()
    return to_milliseconds(value, name, maximum=_LATEST) / 1000


def _seconds(stored: Any) -> float | None:
    """Stored milliseconds as seconds; other producers also store times as text, in digits or in ISO 8601."""
    if stored is None or stored == "":
        return None
    try:
        return float(stored) / 1000
    except ValueError:
        return datetime.fromisoformat(stored).timestamp()


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _error(kind: type[SchedulerError], store: QueueStore, scheduler_id: str, what: str) -> Any:
    message = f"scheduler {scheduler_id!r} of queue {store.keys.name!r} {what}"
    return kind(message, scheduler_id=scheduler_id, queue=store.keys.name)
