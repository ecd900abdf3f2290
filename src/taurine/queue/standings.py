"""Comparing a queue with what somebody else knows of its jobs: many at once, at a cost that does not grow with the
queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from taurine.queue.event_stream import stream_order
from taurine.queue.events import Removed, parse_event
from taurine.queue.states import LISTS
from taurine.queue.store import QueueStore

__all__ = ["Ended", "LineState", "Standing", "line_page", "read_standings", "recently_removed", "relist"]

_PER_CALL = 200
"""Jobs that one script call looks at: below a millisecond of the server's time where none is searched for in a list."""

_PAGE, _PAGES = 1000, 12
"""An event stream holds some 10,000 entries; of one that holds more the newest are read."""

LineState: TypeAlias = Literal["wait", "prioritized", "delayed"]
"""The collections of jobs that have not started."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that has ended in the queue and is still stored. Times in ms since the epoch; None for what is not known."""

    completed: bool
    """False for one that failed."""
    value: str
    """The result, JSON, or the reason of the failure."""
    stacktrace: str
    """The stored stack traces, JSON."""
    finished_at: int | None
    processed_at: int | None
    attempts_started: int
    attempts_made: int
    worker: str
    options: str
    """The stored options, JSON."""


Standing: TypeAlias = 'Ended | Literal["in line", "gone", "nowhere"]'
"""`in line` is any job that is still to run or runs; `gone` is not stored; `nowhere` is stored, and in no collection."""

_WORDS: dict[int, Literal["in line", "gone", "nowhere"]] = {0: "in line", -1: "gone", -2: "nowhere"}


async def read_standings(store: QueueStore, stored_ids: Sequence[str]) -> list[Standing]:
    """Where these jobs stand, in their order."""
    standings: list[Standing] = []
    for first in range(0, len(stored_ids), _PER_CALL):
        raw = await store.run("standings", *stored_ids[first : first + _PER_CALL])
        standings.extend(_WORDS[entry] if isinstance(entry, int) else _ended(entry) for entry in raw)
    return standings


def _ended(raw: Sequence[Any]) -> Ended:
    code, *facts = raw
    value, stacktrace, finished, processed, started, made, worker, options = (
        fact.decode("utf-8", "replace") for fact in facts
    )
    return Ended(
        completed=code == 1,
        value=value,
        stacktrace=stacktrace,
        finished_at=_number(finished),
        processed_at=_number(processed),
        attempts_started=_number(started) or 0,
        attempts_made=_number(made) or 0,
        worker=worker,
        options=options,
    )


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


async def line_page(store: QueueStore, collection: LineState, first: int, count: int) -> list[str]:
    """The stored ids of jobs that have not started, the next to start first, from place `first` on."""
    key = store.keys.key(collection)
    if collection in LISTS:
        page = await store.connection.call("LRANGE", key, -(first + count), -(first + 1))
        page.reverse()
    else:
        page = await store.connection.call("ZRANGE", key, first, first + count - 1)
    return [raw.decode("utf-8", "replace") for raw in page]


async def relist(store: QueueStore, stored_id: str) -> bool:
    """Put a job back in line that stands nowhere; False when it does stand somewhere, or is stored no more. Atomic."""
    return await store.run("relist", store.now_ms(), stored_id) == 1


async def recently_removed(store: QueueStore, after: str = "") -> tuple[dict[str, int], str]:
    """Jobs that were removed one by one, as far as the event stream still tells: when the last time, ms of the server's
    clock, by id; and the newest event's id.

    after: the id of an event that an earlier call returned; only what came since is read. Default: all.
    """
    removed: dict[str, int] = {}
    newest, oldest, seen = "+", f"({after}" if after else "-", after
    for _ in range(_PAGES):
        entries = await store.connection.call("XREVRANGE", store.keys.events, newest, oldest, "COUNT", _PAGE)
        if entries and newest == "+":
            seen = entries[0][0].decode()
        for entry in entries:
            event = parse_event(entry)
            if isinstance(event, Removed):
                removed.setdefault(event.job_id, stream_order(event.id)[0])
        if len(entries) < _PAGE:
            break
        newest = f"({entries[-1][0].decode()}"
    return removed, seen
