"""Whether queues are well: what is looked at, where the limits are, and what is wrong.

By default these are things that pass when their cause has passed: how many of the jobs that ended lately have failed,
how long the first has been due that waits, and dead letters that nobody has dealt with. Failures that are kept on
purpose are no illness. Totals are looked at only where somebody asks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from taurine.heartbeat import Heartbeat
from taurine.jobs.operations.readings import LedgerReadings, Readings
from taurine.jobs.operations.throughput import Throughput

__all__ = ["HealthLimits", "Liveness", "QueueHealth", "Trouble", "TroubleKind", "health_of_queues", "late_loops"]

log = logging.getLogger("taurine")

TroubleKind: TypeAlias = Literal["failure_rate", "oldest_waiting", "dead_letters", "waiting", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthLimits:
    """Above which a queue is not well; each None is not looked at.

    failure_rate: share of the jobs that ended in `window` seconds which failed for good, once so many ended:
    `least_ended`.
    oldest_waiting: seconds that the first job has been due; a queue that is paused is spared. dead_letters: open ones.
    waiting, failed: records that wait for their start, or failed for good, however old. Looked at only when they are
    given.
    """

    failure_rate: float | None = 0.05
    window: float = 300.0
    least_ended: int = 20
    oldest_waiting: float | None = 300.0
    dead_letters: int | None = 100
    waiting: int | None = None
    failed: int | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A figure above its limit."""

    kind: TroubleKind
    value: float
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """One queue's figures, and which of them are above their limits.

    failure_rate: None where too few ended. paused: None while its server does not answer.
    """

    name: str
    failure_rate: float | None
    ended: int
    oldest_waiting: float | None
    dead_letters: int
    waiting: int
    failed: int
    paused: bool | None
    troubles: Sequence[Trouble] = ()

    @property
    def healthy(self) -> bool:
        return not self.troubles


def health_of_queues(
    readings: Readings, lately: Iterable[Throughput], limits: HealthLimits, *, queues: Collection[str]
) -> list[QueueHealth]:
    """The health of these queues, and of those of Taurine's own that are in use.

    lately: what their jobs came to in the limits' window. Nothing can be said without the ledger: then there are none.
    """
    if readings.ledger is None:
        return []
    by_queue = {one.queue: one for one in lately}
    return [
        _health_of(name, readings, readings.ledger, by_queue, limits)
        for name in sorted({*queues, *readings.own_queues})
    ]


def late_loops(heartbeats: Iterable[Heartbeat]) -> dict[str, float]:
    """The loops that are stuck, and since how many seconds they should have turned."""
    return {beat.name: late for beat in heartbeats if (late := beat.late) > 0}


class Liveness:
    """Whether the loops of a process turn.

    The log names those that do not, once: whoever asks has no credentials, and is told a word.

    whose: the beginning of the line in the log. heartbeats: gives those that there are. Safe in any thread, as far as
    `heartbeats` is.
    """

    def __init__(self, whose: str, heartbeats: Callable[[], Iterable[Heartbeat]]) -> None:
        self._whose = whose
        self._heartbeats = heartbeats
        self._was_stuck = False

    def look(self) -> bool:
        """True where none is late."""
        late = late_loops(self._heartbeats())
        if late and not self._was_stuck:
            listed = ", ".join(f"{name} ({seconds:.0f} s late)" for name, seconds in late.items())
            log.error("%s is stuck: these loops do not turn: %s", self._whose, listed)
        self._was_stuck = bool(late)
        return not late


def _health_of(
    name: str,
    readings: Readings,
    ledger: LedgerReadings,
    lately: Mapping[str, Throughput],
    limits: HealthLimits,
) -> QueueHealth:
    records, recent = ledger.records.get(name), lately.get(name)
    ended = 0 if recent is None else recent.ended
    standing = None if readings.store is None else readings.store.queues.get(name)
    health = QueueHealth(
        name=name,
        failure_rate=None if recent is None or ended < limits.least_ended else recent.failure_rate,
        ended=ended,
        oldest_waiting=readings.oldest_waiting(name),
        dead_letters=ledger.dead_letters.get(name, 0),
        waiting=0 if records is None else records.counts["queued"].number,
        failed=0 if records is None else records.counts["failed"].number,
        paused=None if standing is None else standing.paused,
    )
    return replace(health, troubles=tuple(_troubles(health, limits)))


def _troubles(health: QueueHealth, limits: HealthLimits) -> Iterator[Trouble]:
    looked_at: tuple[tuple[TroubleKind, float | None, float | None], ...] = (
        ("failure_rate", health.failure_rate, limits.failure_rate),
        ("oldest_waiting", None if health.paused else health.oldest_waiting, limits.oldest_waiting),
        ("dead_letters", health.dead_letters, limits.dead_letters),
        ("waiting", health.waiting, limits.waiting),
        ("failed", health.failed, limits.failed),
    )
    for kind, value, limit in looked_at:
        if value is not None and limit is not None and value > limit:
            yield Trouble(kind, value, limit)
