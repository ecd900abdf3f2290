"""Which figures make a queue unwell, on both sides of each limit."""

from __future__ import annotations

from typing import Any

import pytest

from taurine.jobs.operations.readings import LedgerReadings, QueueReadings, Readings, StoreReadings
from taurine.jobs.operations.throughput import Distribution, Throughput
from taurine.ledger.listing import Count
from taurine.ledger.queue_counts import QueueRecords
from taurine.ledger.statuses import STATUSES
from taurine.observe.health import HealthLimits, QueueHealth, health_of_queues

NOW = 1_800_000_000.0


def judged(
    *,
    limits: HealthLimits | None = None,
    waiting_for: float | None = None,
    paused: bool = False,
    dead: int = 0,
    outcomes: dict[Any, int] | None = None,
    **counts: int,
) -> QueueHealth:
    due = None if waiting_for is None else round((NOW - waiting_for) * 1000)
    records = QueueRecords({status: Count(counts.get(status, 0), True) for status in STATUSES}, due)
    ledger = LedgerReadings(records={"q": records}, dead_letters={"q": dead}, undelivered={}, totals=[], workers=[])
    store = StoreReadings(queues={"q": QueueReadings({}, paused)}, schedules=[])
    lately = Throughput(
        queue="q", type=None, seconds=300, outcomes=outcomes or {}, wait=Distribution(), run=Distribution()
    )
    readings = Readings(at=NOW, ledger=ledger, store=store)
    (health,) = health_of_queues(readings, [lately], limits or HealthLimits(), queues=["q"])
    return health


def kinds(health: QueueHealth) -> list[str]:
    assert health.healthy == (not health.troubles)
    return [trouble.kind for trouble in health.troubles]


@pytest.mark.parametrize(
    ("well", "unwell", "kind"),
    [
        ({"outcomes": {"completed": 95, "failed": 5}}, {"outcomes": {"completed": 94, "failed": 6}}, "failure_rate"),
        ({"outcomes": {"failed": 19}}, {"outcomes": {"failed": 20}}, "failure_rate"),
        ({"waiting_for": 300.0}, {"waiting_for": 300.5}, "oldest_waiting"),
        ({"waiting_for": 900.0, "paused": True}, {"waiting_for": 900.0}, "oldest_waiting"),
        ({"dead": 100}, {"dead": 101}, "dead_letters"),
    ],
)
def test_a_figure_above_its_limit_is_a_trouble(well: dict[str, Any], unwell: dict[str, Any], kind: str) -> None:
    """SEED-188, SEED-273, CON-24."""
    assert kinds(judged(**well)) == []
    assert kinds(judged(**unwell)) == [kind]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"queued": 100, "failed": 50}, []),
        ({"queued": 101, "failed": 50}, ["waiting"]),
        ({"queued": 100, "failed": 51}, ["failed"]),
    ],
)
def test_totals_count_where_they_are_asked_for(counts: dict[str, Any], expected: list[str]) -> None:
    """SEED-155: both sides of each limit; SEED-272: 5,000 failures that are kept on purpose are no illness by default."""
    assert kinds(judged(limits=HealthLimits(waiting=100, failed=50), **counts)) == expected
    assert kinds(judged(**counts)) == []
    assert kinds(judged(failed=5000, queued=9000)) == []


def test_nothing_is_known_without_the_ledger() -> None:
    readings = Readings(at=NOW, ledger=None, store=None)
    assert health_of_queues(readings, [], HealthLimits(), queues=["q"]) == []
