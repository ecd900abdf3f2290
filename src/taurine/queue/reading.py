"""Looking at a queue: counts, jobs, logs, workers, settings. Nothing here writes to the server.

This side is for operators and dashboards; workers claim and settle through `turn`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from taurine.errors import InvalidOption, StoreRefused
from taurine.ids import lookup_ids, public_id
from taurine.options import MAX_PRIORITY, RateLimit
from taurine.queue.job import Job
from taurine.queue.keys import AD_HOC_LIMIT
from taurine.queue.scripts import Argument
from taurine.queue.states import COLLECTIONS, LISTS, FinishedState, JobState
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import timestamp_ms

__all__ = ["JobLogs", "Metrics", "QueueMeta", "WorkerInfo"]

_PAGE = 500
"""Hashes that one script call reads at most."""

_PRIORITY_STEP, _DUE_STEP = 2**32, 4096
"""Scores are priority × 2^32 + order, and due ms × 4096 + order."""

_MARKS_OF_A_JOB = frozenset((b"timestamp", b"delay", b"priority", b"ats"))
"""Fields that some hash of a job has, and no other hash under a queue: a scheduler's record has a name and data too."""


@dataclass(frozen=True, slots=True)
class QueueMeta:
    """What a queue's settings say; None for what is not set."""

    concurrency: int | None
    """Most jobs active at once, over all workers."""
    max: int | None
    """Most job starts in a window of `duration`, over all workers."""
    duration: float | None
    """The window in seconds."""
    max_events: int | None
    """About how many entries the event stream keeps."""
    paused: bool
    version: str | None
    """The library that set the queue up, for example `bullmq:6.7.0`."""

    @property
    def rate_limit(self) -> RateLimit | None:
        """`max` and `duration`, when both are set."""
        if not self.max or not self.duration:
            return None
        return RateLimit(self.max, self.duration)


@dataclass(frozen=True, slots=True)
class JobLogs:
    """A page of a job's log."""

    lines: list[str]
    total: int
    """How many lines the whole log has."""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker that is connected to the server now."""

    name: str
    """The worker's name; empty for one without."""
    address: str
    """Where its connection comes from: host and port, or a socket's path."""
    age: float
    """Seconds since it connected."""
    idle: float
    """Seconds since it last sent a command."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Finished jobs, in all and by the minute; all zero unless some worker keeps metrics."""

    count: int
    """Jobs finished this way since metrics were first kept."""
    points: list[int]
    """Jobs per minute, newest first; the running minute is not among them."""
    total_points: int
    """How many minutes are kept, those outside the page included."""
    previous_count: int
    """`count` at the newest point."""
    previous_at: float | None
    """Time of the newest point, wall seconds."""


# Counting -----------------------------------------------------------------------------------------------------------------------


async def counts(store: QueueStore, states: Sequence[JobState]) -> dict[JobState, int]:
    collections = [collection for state in states for collection in COLLECTIONS[state]]
    sizes = iter(await store.run("counts", *collections))
    return {state: sum(next(sizes) for _ in COLLECTIONS[state]) for state in states}


async def counts_per_priority(store: QueueStore, priorities: Iterable[int]) -> dict[int, int]:
    wanted = list(dict.fromkeys(priorities))
    sizes = await store.connection.pipeline([_count_of_priority(store, priority) for priority in wanted])
    return dict(zip(wanted, sizes, strict=True))


def _count_of_priority(store: QueueStore, priority: int) -> tuple[Argument, ...]:
    if isinstance(priority, bool) or not isinstance(priority, int) or not 0 <= priority <= MAX_PRIORITY:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected a priority from 0 to {MAX_PRIORITY}, got {priority!r:.40}")
    if priority == 0:
        return ("LLEN", store.keys.wait)
    low = priority * _PRIORITY_STEP
    return ("ZCOUNT", store.keys.prioritized, low, low + _PRIORITY_STEP - 1)


async def delayed_count(store: QueueStore, before: float | datetime | None) -> int:
    highest = "+inf" if before is None else (timestamp_ms(before) + 1) * _DUE_STEP - 1
    return await store.connection.call("ZCOUNT", store.keys.delayed, "-inf", highest)


# Jobs -------------------------------------------------------------------------------------------------------------------------


async def get_job(store: QueueStore, job_id: str) -> Job | None:
    return next(iter(await _read(store, lookup_ids(job_id))), None)


async def get_jobs(store: QueueStore, states: Sequence[JobState], start: int, end: int, ascending: bool) -> list[Job]:
    collections = [collection for state in states for collection in COLLECTIONS[state]]
    pages = await store.connection.pipeline([_range(store, name, start, end, ascending) for name in collections])
    found: dict[str, None] = {}  # a job that moves between two reads is listed once
    for name, page in zip(collections, pages, strict=True):
        ids = reversed(page) if ascending and name in LISTS else page
        found.update((raw.decode("utf-8", "replace"), None) for raw in ids)
    return await _read(store, list(found))


def _range(store: QueueStore, collection: str, start: int, end: int, ascending: bool) -> tuple[Argument, ...]:
    key = store.keys.key(collection)
    if collection not in LISTS:
        return ("ZRANGE" if ascending else "ZREVRANGE", key, start, end)
    # A list has its newest entry first; the page is turned round by whoever reads it.
    return ("LRANGE", key, -(end + 1), -(start + 1)) if ascending else ("LRANGE", key, start, end)


async def _read(store: QueueStore, stored_ids: Sequence[str]) -> list[Job]:
    jobs: list[Job] = []
    for first in range(0, len(stored_ids), _PAGE):
        ids = stored_ids[first : first + _PAGE]
        for stored_id, flat in zip(ids, await store.run("read_jobs", *ids), strict=True):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            if not _MARKS_OF_A_JOB.isdisjoint(fields):
                jobs.append(Job.stored(store, stored_id, fields))
    return jobs


async def logs(store: QueueStore, stored_ids: Sequence[str], start: int, end: int, ascending: bool) -> JobLogs:
    """A page of the log of the first of these stored ids that is stored."""
    if not stored_ids:
        return JobLogs([], 0)
    first, last = (start, end) if ascending else (-(end + 1), -(start + 1))
    total, raw = await store.run("read_logs", first, last, *stored_ids)
    lines = [line.decode("utf-8", "replace") for line in raw]
    return JobLogs(lines if ascending else lines[::-1], total)


async def deduplication_owner(store: QueueStore, dedup_id: str) -> str | None:
    owner = await store.connection.call("GET", store.keys.deduplication(dedup_id))
    return None if owner is None else public_id(owner.decode("utf-8", "replace"))


# The queue's affairs ------------------------------------------------------------------------------------------------------------


async def meta(store: QueueStore) -> QueueMeta:
    fields = ("concurrency", "max", "duration", "opts.maxLenEvents", "paused", "version")
    concurrency, most, duration, max_events, paused, version = await store.connection.call(
        "HMGET", store.keys.meta, *fields
    )
    duration_ms = _number(duration)
    return QueueMeta(
        concurrency=_number(concurrency),
        max=_number(most),
        duration=None if duration_ms is None else duration_ms / 1000,
        max_events=_number(max_events),
        paused=paused is not None,
        version=None if version is None else version.decode("utf-8", "replace"),
    )


async def is_paused(store: QueueStore) -> bool:
    return bool(await store.connection.call("HEXISTS", store.keys.meta, "paused"))


async def is_maxed(store: QueueStore) -> bool:
    commands = [("HGET", store.keys.meta, "concurrency"), ("LLEN", store.keys.active)]
    concurrency, active = await store.connection.pipeline(commands)
    most = _number(concurrency)
    return most is not None and active >= most


async def rate_limit_ttl(store: QueueStore, most: int | None) -> float:
    commands = [("GET", store.keys.limiter), ("PTTL", store.keys.limiter), ("HGET", store.keys.meta, "max")]
    started, ttl_ms, of_queue = await store.connection.pipeline(commands)
    if most is None:
        most = _number(of_queue)
    reached = most is None or (_number(started) or 0) >= min(most, AD_HOC_LIMIT)
    return ttl_ms / 1000 if reached and ttl_ms > 0 else 0.0


async def workers(store: QueueStore) -> list[WorkerInfo] | None:
    try:
        clients = (await store.connection.call("CLIENT", "LIST")).decode("utf-8", "replace")
    except StoreRefused:
        return None
    return [worker for line in clients.splitlines() if (worker := _worker(store, line)) is not None]


_CLIENT_FIELD = re.compile(r"([\w-]+)=(\S*)")


def _worker(store: QueueStore, line: str) -> WorkerInfo | None:
    fields = dict(_CLIENT_FIELD.findall(line))
    unnamed = store.keys.client_name()
    own, separator, label = fields.get("name", "").partition(f"{unnamed}:w:")
    if fields.get("name") == unnamed:
        label = ""
    elif own or not separator:
        return None
    return WorkerInfo(label, fields.get("addr", ""), float(fields.get("age", 0)), float(fields.get("idle", 0)))


async def metrics(store: QueueStore, kind: FinishedState, start: int, end: int) -> Metrics:
    key = store.keys.key(f"metrics:{kind}")
    data = f"{key}:data"
    commands = [("HMGET", key, "count", "prevCount", "prevTS"), ("LRANGE", data, start, end), ("LLEN", data)]
    (count, previous_count, previous_ms), points, total = await store.connection.pipeline(commands)
    previous = _number(previous_ms)
    return Metrics(
        count=_number(count) or 0,
        points=[_number(point) or 0 for point in points],
        total_points=total,
        previous_count=_number(previous_count) or 0,
        previous_at=None if previous is None else previous / 1000,
    )


def _number(raw: Any) -> int | None:
    """A stored number; None for none, and for text that somebody else left there."""
    try:
        return None if raw is None else int(float(raw))
    except (ValueError, OverflowError):
        return None
