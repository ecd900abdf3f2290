"""What each rule looks at, on both sides of what it tells apart."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from observe.alerting import readings_of
from taurine.app import Taurine
from taurine.jobs.operations.readings import Readings
from taurine.jobs.operations.workers import WorkerView
from taurine.ledger.listing import Count
from taurine.ledger.outbox import OutboxLag
from taurine.ledger.queue_counts import QueueRecords
from taurine.ledger.tallies import TallyCount, add_tallies
from taurine.observe.alerts import (
    DeadLettersGrowing,
    DeadLettersOpen,
    FailedRising,
    FailureRate,
    Finding,
    LimitRule,
    NoWorker,
    OldestWaiting,
    QueueDepth,
    QueuePaused,
    ScheduleLate,
    StoreDown,
)
from taurine.observe.alerts import (
    OutboxLag as OutboxLagRule,
)
from taurine.observe.alerts.look import Look
from taurine.observe.alerts.pauses import Pauses
from taurine.testing import TestClock


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    """An application with the queue `mail`."""
    made = app_factory(clock=TestClock(datetime(2030, 1, 1, tzinfo=UTC)))
    made.declare("mail.send", int, queue="mail")
    return made


async def finding_of(app: Taurine, rule: LimitRule, readings: Readings, subject: str = "mail") -> Finding | None:
    """What a rule finds; None where it can say nothing."""
    backend = app._backend()
    await backend.ready()
    look = Look(backend, readings, application=app.name)
    return {finding.subject: finding for finding in await rule.findings(look)}.get(subject)


async def value_of(app: Taurine, rule: LimitRule, readings: Readings, subject: str = "mail") -> float | None:
    """The value that a rule finds; None where it can say nothing."""
    found = await finding_of(app, rule, readings, subject)
    return None if found is None else found.value


async def text_of(app: Taurine, rule: LimitRule, readings: Readings, subject: str = "mail") -> str:
    """What a rule says of what it finds."""
    found = await finding_of(app, rule, readings, subject)
    assert found is not None
    return found.text


def worker(state: Any, *queues: str) -> WorkerView:
    now = datetime.now(UTC)
    usual: dict[str, Any] = {"id": "w", "name": "w", "host": "h", "pid": 1, "version": "1", "slots": 1, "busy": 0}
    more: dict[str, Any] = {"leases_lost": 0, "diverged": None, "loops": {}, "stopped_at": None}
    return WorkerView(queues=queues, state=state, started_at=now, seen_at=now, **usual, **more)


def queued(number: int, due_since: int | None) -> dict[str, QueueRecords]:
    return {"mail": QueueRecords({"queued": Count(number, True)}, due_since)}  # pyright: ignore[reportArgumentType] - the one that is read


async def test_depth(app: Taurine) -> None:
    """SEED-187: by the server of queues; while it does not answer, by the records, if any is due."""
    rule = QueueDepth()

    assert await value_of(app, rule, readings_of(waiting=101)) == 101
    assert await value_of(app, rule, readings_of(waiting=3, records=queued(500, 1))) == 3, "497 are due later"
    assert await value_of(app, rule, readings_of(waiting=None, records=queued(500, 1))) == 500
    assert await value_of(app, rule, readings_of(waiting=None, records=queued(500, None))) == 0
    assert await value_of(app, rule, Readings(at=1, ledger=None, store=None)) is None
    assert await value_of(app, QueueDepth(queues=["other"]), readings_of(waiting=101)) is None
    assert await text_of(app, rule, readings_of(waiting=101)) == "queue 'mail' has 101 jobs in line"
    paused = await text_of(app, rule, readings_of(waiting=101, paused=True))
    assert paused == "queue 'mail' is paused and has 101 jobs in line"


async def test_depth_of_a_real_queue(app: Taurine) -> None:
    """SEED-187: 101 jobs that wait, beside many that are due tomorrow."""
    mail = app.catalog.get("mail.send")
    await mail.enqueue_many([1] * 101)
    await mail.enqueue_many([1] * 20, delay=86_400)

    assert await value_of(app, QueueDepth(), await app.readings(within=30)) == 101


async def test_paused(app: Taurine) -> None:
    """What is forgotten: `oldest_waiting` and `no_worker` spare a queue that is paused."""
    rule = QueuePaused()

    assert await value_of(app, rule, readings_of(waiting=2, paused=True)) == 2
    assert await value_of(app, rule, readings_of(waiting=0, paused=True)) == 0
    assert await value_of(app, rule, readings_of(waiting=2)) == 0
    assert await value_of(app, rule, readings_of(waiting=None, records=queued(2, 1))) is None, "nobody knows"
    assert await value_of(app, QueuePaused(queues=["other"]), readings_of(waiting=2, paused=True)) is None
    assert [await text_of(app, rule, readings_of(waiting=number, paused=True)) for number in (0, 1, 1200)] == [
        "queue 'mail' is paused, and no job waits",
        "queue 'mail' is paused, and 1 job waits",
        "queue 'mail' is paused, and 1,200 jobs wait",
    ]
    assert await text_of(app, rule, readings_of(waiting=2)) == "queue 'mail' is not paused"


async def test_paused_of_a_real_queue(app: Taurine) -> None:
    """The jobs of all priorities; its own words make it go on."""
    mail, rule = app.catalog.get("mail.send"), QueuePaused()
    await app.queues.pause("mail")
    await mail.enqueue_many([1] * 2)
    await mail.enqueue(1, priority=3)

    found = await finding_of(app, rule, await app.readings(within=30))
    assert found is not None
    await app.queues.resume("mail")

    assert found.remedy == "`taurine queues resume mail` lets workers start them"
    assert (found.value, found.queue) == (3, "mail")
    assert await value_of(app, rule, await app.readings(within=30)) == 0


async def test_oldest_waiting(app: Taurine) -> None:
    """SEED-073."""
    rule = OldestWaiting()

    assert await value_of(app, rule, readings_of(at=1301, waiting=1, records=queued(1, 1_000_000))) == 301
    assert await value_of(app, rule, readings_of(at=1301, waiting=1, records=queued(1, None))) == 0
    assert await value_of(app, rule, readings_of(at=1301, waiting=1, paused=True, records=queued(1, 1_000_000))) == 0
    assert await value_of(app, rule, Readings(at=1, ledger=None, store=None)) is None


async def test_oldest_waiting_after_a_pause(app: Taurine) -> None:
    """SEED-073: the time of the pause does not count, and what waits for less than that since is as old as it is."""
    rule, backend = OldestWaiting(), app._backend()
    await backend.ready()
    pauses = Pauses().after({"mail": True}, 1000).after({"mail": False}, 1800)

    async def found(at: float, due_since: int) -> Finding:
        readings = readings_of(at=at, waiting=1, records=queued(1, due_since))
        (one,) = await rule.findings(Look(backend, readings, pauses, application="test"))
        return one

    resumed, late, newer = await found(1801, 1_000_000), await found(2101, 1_000_000), await found(2101, 2_000_000)

    assert (resumed.value, late.value, newer.value) == (1, 301, 101)
    assert late.text == "the first job of queue 'mail' has waited 301 s since the queue was resumed"
    assert newer.text == "the first job of queue 'mail' has waited 101 s"


def test_what_is_remembered_of_pauses() -> None:
    """A queue of which nothing is known stays as it was; another pause begins anew; what is kept is read again."""
    once = Pauses().after({"mail": True, "bulk": False}, 10)
    unknown = once.after({"bulk": False}, 20)
    resumed = unknown.after({"mail": False}, 30).after({"mail": False}, 40)
    again = resumed.after({"mail": True}, 50)

    assert (once.paused, once.resumed) == ({"mail"}, {})
    assert unknown == once
    assert (resumed.paused, resumed.resumed) == (set(), {"mail": 30})
    assert (again.paused, again.resumed) == ({"mail"}, {})
    assert [Pauses.from_json(one.to_json()) for one in (once, resumed)] == [once, resumed]


async def test_no_worker(app: Taurine) -> None:
    rule = NoWorker()

    assert await value_of(app, rule, readings_of(waiting=2)) == 2
    assert await value_of(app, rule, readings_of(waiting=2, workers=[worker("lost", "mail")])) == 2
    assert await value_of(app, rule, readings_of(waiting=2, workers=[worker("running", "other")])) == 2
    assert await value_of(app, rule, readings_of(waiting=2, workers=[worker("running", "mail")])) == 0
    assert await value_of(app, rule, readings_of(waiting=2, paused=True)) == 0
    assert await value_of(app, rule, readings_of(waiting=0)) == 0
    app.queue("mail", shared=True)
    assert await value_of(app, rule, readings_of(waiting=2)) == 0


async def test_outbox_lag(app: Taurine) -> None:
    rule = OutboxLagRule()

    assert await value_of(app, rule, readings_of(undelivered={"mail": OutboxLag(3, 1, 61_000)})) == 61
    assert await value_of(app, rule, readings_of()) == 0


async def test_store_down(app: Taurine) -> None:
    """One subject, whatever queues there are; what the ledger has not answered either says nothing."""
    rule = StoreDown()

    assert await value_of(app, rule, readings_of(waiting=None), "test") == 1
    assert await value_of(app, rule, readings_of(waiting=0), "test") == 0
    assert await value_of(app, rule, Readings(at=1, ledger=None, store=None), "test") is None
    assert await text_of(app, rule, readings_of(waiting=None), "test") == "the server of queues does not answer"


async def test_a_store_that_is_down(app_factory: Callable[..., Taurine], server_factory: Callable[..., Any]) -> None:
    """A quiet application, whose outbox is empty, hears of it too."""
    server = server_factory()
    app = app_factory(redis_url=server.socket_url)
    app.declare("mail.send", int, queue="mail")
    before = await value_of(app, StoreDown(), await app.readings(within=30), "test")
    server.kill()

    readings = await app.readings()

    assert (before, await value_of(app, StoreDown(), readings, "test")) == (0, 1)
    assert await value_of(app, OutboxLagRule(), readings) == 0


async def test_late_schedules(app: Taurine) -> None:
    rule = ScheduleLate()

    assert await value_of(app, rule, readings_of(waiting=0, late=61), "nightly") == 61
    assert await value_of(app, rule, readings_of(waiting=0), "nightly") == 0
    assert await value_of(app, rule, readings_of(waiting=None), "nightly") is None, "nobody knows"
    assert await value_of(app, rule, readings_of(waiting=0, late=61, paused=True), "nightly") == 0


async def test_late_schedules_after_a_pause(app: Taurine) -> None:
    """The time of the pause does not count; a run that came due since is as late as it is."""
    rule, backend = ScheduleLate(), app._backend()
    await backend.ready()
    pauses = Pauses().after({"mail": True}, 1000).after({"mail": False}, 1800)

    async def late(at: float, seconds: float) -> float:
        readings = readings_of(at=at, waiting=0, late=seconds)
        (one,) = await rule.findings(Look(backend, readings, pauses, application="test"))
        return one.value

    assert (await late(1801, 700), await late(1861, 760), await late(2000, 5)) == (1, 61, 5)


async def count(app: Taurine, *, completed: int, failed: int) -> None:
    backend = app._backend()
    await backend.ready()
    at = round(app.clock.now() * 1000)
    counts = [
        TallyCount("mail", "mail.send", "completed", 0, completed),
        TallyCount("mail", "mail.send", "failed", 0, failed),
    ]
    await backend.database.write(lambda connection: add_tallies(connection, counts, at))


async def test_failure_rate(app: Taurine) -> None:
    """SEED-188: of the window alone, and not of a handful."""
    clock = app.clock
    assert isinstance(clock, TestClock)
    rule = FailureRate(window=300, least_ended=20)

    await count(app, completed=17, failed=2)
    assert await value_of(app, rule, readings_of()) == 0, "19 ended"
    await count(app, completed=1, failed=0)
    assert await value_of(app, rule, readings_of()) == 0.1
    assert await value_of(app, FailedRising(window=300), readings_of()) == 2
    clock.advance(361)
    assert await value_of(app, rule, readings_of()) == 0
    assert await value_of(app, FailedRising(window=300), readings_of()) == 0


async def test_failed_total_rising(app: Taurine) -> None:
    """SEED-072: what failed counts, whatever else there is."""
    await count(app, completed=10_000, failed=51)

    assert await value_of(app, FailedRising(), readings_of()) == 51
    assert await value_of(app, FailureRate(), readings_of()) == 51 / 10_051


async def test_dead_letters_open_and_growing(app_factory: Callable[..., Taurine]) -> None:
    """SEED-179, SEED-189: of an hour those that are still open; of all time as well."""
    clock = TestClock()
    app = app_factory(clock=clock)
    orders = declare_orders(app)
    handles = [await orders.enqueue(Order(number=number, fail="permanent")) for number in range(3)]
    async with app.worker():
        for handle in handles:
            await ended(handle.record, "failed")

    async def both() -> list[float | None]:
        readings = await app.readings(within=30)
        return [await value_of(app, rule, readings, "orders") for rule in (DeadLettersOpen(), DeadLettersGrowing())]

    assert await both() == [3, 3]
    (first, *_) = await app.dead_letters.list()
    await app.dead_letters.discard(first)
    assert await both() == [2, 2]
    clock.advance(3601)
    assert await both() == [2, 0]
