"""Where one job stands, and what stands in its way: one round trip whose cost does not grow with the queue.

Not atomic: a job that moves while it is looked for may be found nowhere although it is stored. The caller looks again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from taurine.queue.job import Job
from taurine.queue.keys import AD_HOC_LIMIT
from taurine.queue.scripts import Argument
from taurine.queue.states import JobState
from taurine.queue.store import QueueStore

__all__ = ["Whereabouts", "locate"]

_SEARCHED = 100_000
"""Entries of a list that are passed over for a job: about a millisecond of the server's time."""

_DUE_STEP = 4096
"""Scores of delayed jobs are due ms × 4096 + order."""

_SETS: tuple[JobState, ...] = ("delayed", "waiting-children", "completed", "failed")
"""States whose sorted sets are asked for the job's score, in the order of the answers."""

_RATE_SECONDS = 60.0
"""The time over which ends are counted."""

_SHORTEST_SECONDS = 0.05
"""The least time that a rate is taken over: a few ends in one turn are no stream."""

_LOOKS = 3
"""Times that a job which is stored, and found nowhere since it moved, is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """What the server knew of a job and its queue at one time. Durations in seconds, times in wall seconds."""

    job: Job | None
    """The job as it is stored; None when the queue has none of its id."""
    state: JobState | None
    """None for a job that is not stored, or stands nowhere. One that is not found in a very long line is taken to stand
    deep in it.
    """
    ahead: int | None
    """Of a job in line: how many start before it. None where it stands too deep to tell."""
    due_at: float | None
    """Of a delayed job: when it is due."""
    lease_left: float | None
    """Of an active job: how long its lease holds without renewal; None when there is none, since its worker is gone."""
    paused: bool
    waiting: int
    """Jobs in the line of those without a priority."""
    active: int
    """Jobs of the queue that run now."""
    concurrency: int | None
    """Most that may, over all workers; None without such a limit."""
    limited_for: float
    """How long a rate limit that is reached lets no job start; 0.0 when none is reached."""
    window_left: float
    """What is left of a window that counts starts for a limit that only workers know, reached or not; 0.0 when there is
    none.
    """
    rate: float | None
    """Jobs that ended per second lately; None when none is known to have ended in the last minute."""

    @property
    def maxed(self) -> bool:
        """True while as many jobs run as the queue allows."""
        return self.concurrency is not None and self.active >= self.concurrency


async def locate(store: QueueStore, stored_ids: Sequence[str]) -> Whereabouts:
    """Look for the first of these stored ids that is stored."""
    found = await _look(store, stored_ids[0] if stored_ids else "")
    for stored_id in stored_ids[1:]:
        if found.job is None:
            found = await _look(store, stored_id)
    looks = 1
    while found.job is not None and found.state is None and looks < _LOOKS:
        found = await _look(store, found.job.stored_id)
        looks += 1
    return found


async def _look(store: QueueStore, stored_id: str) -> Whereabouts:
    keys, now = store.keys, store.clock.now()
    ends = _commands_of_ends(keys.completed, now) + _commands_of_ends(keys.failed, now)
    replies = iter(
        await store.connection.pipeline(
            [
                *_commands_of_place(store, stored_id),
                ("PTTL", keys.lock(stored_id)),
                ("LLEN", keys.active),
                ("HMGET", keys.meta, "paused", "concurrency", "max"),
                ("GET", keys.limiter),
                ("PTTL", keys.limiter),
                *ends,
            ]
        )
    )
    state, ahead, due, waiting = _place(replies)
    lease_ms, active, (paused, concurrency, most), started, window_ms = (next(replies) for _ in range(5))
    limit, window = _number(most), max(0, window_ms) / 1000
    reached = (_number(started) or 0) >= min(AD_HOC_LIMIT if limit is None else limit, AD_HOC_LIMIT)
    return Whereabouts(
        job=await _read(store, stored_id),
        state=state,
        ahead=ahead,
        due_at=None if due is None else due // _DUE_STEP / 1000,
        lease_left=lease_ms / 1000 if lease_ms >= 0 else None,
        paused=paused is not None,
        waiting=waiting,
        active=active,
        concurrency=_number(concurrency),
        limited_for=window if reached else 0.0,
        window_left=0.0 if reached or limit is not None else window,
        rate=_rate(list(replies), now),
    )


def _commands_of_place(store: QueueStore, stored_id: str) -> list[tuple[Argument, ...]]:
    keys = store.keys
    return [
        # Workers take from the end of the lists.
        *(("LPOS", key, stored_id, "RANK", -1, "MAXLEN", _SEARCHED) for key in (keys.wait, keys.legacy_paused)),
        ("LPOS", keys.active, stored_id, "MAXLEN", _SEARCHED),
        ("LLEN", keys.wait),
        ("ZRANK", keys.prioritized, stored_id),
        *(("ZSCORE", keys.key(suffix), stored_id) for suffix in _SETS),
    ]


def _place(replies: Iterator[Any]) -> tuple[JobState | None, int | None, float | None, int]:
    """The state, how many start before it, the score of a delayed job, and how many wait, from the answers to
    `_commands_of_place`.
    """
    in_wait, in_paused, in_active, waiting, rank = (next(replies) for _ in range(5))
    scores: list[tuple[JobState, Any]] = [(state, next(replies)) for state in _SETS]
    if rank is not None:
        return "prioritized", waiting + rank, None, waiting
    if in_wait is not None:
        return "waiting", waiting - 1 - in_wait, None, waiting
    for state, score in scores:
        if score is not None:
            return state, None, float(score) if state == "delayed" else None, waiting
    if in_active is not None:
        return "active", None, None, waiting
    return ("waiting" if in_paused is not None or waiting > _SEARCHED else None), None, None, waiting


def _commands_of_ends(key: str, now: float) -> list[tuple[Argument, ...]]:
    since = round((now - _RATE_SECONDS) * 1000)
    return [("ZCOUNT", key, since, "+inf"), ("ZCARD", key), ("ZRANGE", key, 0, 0, "WITHSCORES")]


def _rate(replies: Sequence[Any], now: float) -> float | None:
    """Ends per second.

    Where all that are kept are recent, older ones may have been dropped: then it is the time since the oldest that
    counts.
    """
    rates: list[float] = []
    for recent, kept, oldest in (replies[:3], replies[3:]):
        if recent:
            seconds = now - float(oldest[1]) / 1000 if recent == kept else _RATE_SECONDS
            rates.append(recent / max(seconds, _SHORTEST_SECONDS))
    return sum(rates) if rates else None


async def _read(store: QueueStore, stored_id: str) -> Job | None:
    (flat,) = await store.run("read_jobs", stored_id)
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Job.stored(store, stored_id, fields) if b"timestamp" in fields else None


def _number(raw: Any) -> int | None:
    """A stored number; None for none, and for text that somebody else left there."""
    try:
        return None if raw is None else int(float(raw))
    except (ValueError, OverflowError):
        return None
