"""The watch: one message of any number of processes, whatever becomes of the one that sends it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from observe.alerting import Heard, Pretended, readings_of, watch_of
from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import InvalidOption, JobFailed
from taurine.jobs.operations.readings import Readings
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.listing import Count
from taurine.ledger.queue_counts import QueueRecords
from taurine.observe.alerts import (
    DEFAULT_RULES,
    DeadLettersOpen,
    EventRule,
    Finding,
    LimitRule,
    OldestWaiting,
)
from taurine.observe.alerts.delivery import MOST_TRIES
from taurine.observe.alerts.look import Look
from taurine.retry import Retry
from taurine.testing import TestClock

Factory = Callable[..., Taurine]
RULE = "dead_letters_depth"
START = datetime(2030, 1, 1, tzinfo=UTC)
DENIED = Alert("denied", "job-1", "mail.send", "mail", "acme", "not yours: password=hunter2")


@pytest.fixture
def clock() -> TestClock:
    return TestClock(START)


async def test_ten_watchers_send_one_message(app_factory: Factory, ledger_url: str, clock: TestClock) -> None:
    """A raise and a recovery, each once, with five programs of two watches each on one ledger; the mark that decides is
    a row.
    """
    heard, figures = Heard(), Pretended(11)
    watches = [
        watch_of(app, figures, [heard]) for app in (app_factory(clock=clock) for _ in range(5)) for _ in range(2)
    ]

    for dead in (11, 12, 6, 5, 5):
        figures.dead = dead
        await asyncio.gather(*(watch.run_once() for watch in watches))
        clock.advance(15)

    assert heard.states == ["raised", "over"]
    assert figures.looks == 5, "one of the ten looks in each interval"
    raised, over = heard.alerts
    assert (raised.kind, raised.queue, raised.value, raised.limit) == ("dead_letters_depth", "mail", 11, 10)
    assert (raised.id, raised.raised_at, raised.application) == (over.id, START.timestamp(), "test")
    assert raised.message == "queue 'mail' has 11 dead letters that nobody has dealt with, more than 10"


async def test_those_that_decide_at_the_same_time_do_not_both_win(
    app_factory: Factory, ledger_url: str, clock: TestClock
) -> None:
    """As when one that looks is slower than the interval: the second one's row is not the one that it has read."""
    heard, figures = Heard(), Pretended(11)
    watches = [watch_of(app_factory(clock=clock), figures, [heard]) for _ in range(4)]
    for watch in watches:
        await watch._backend.ready()

    await asyncio.gather(*(watch._look() for watch in watches))
    await asyncio.gather(*(watch._delivery.tell_all() for watch in watches))

    assert (figures.looks, heard.states) == (4, ["raised"])


async def test_what_is_known_survives_all_processes(app_factory: Factory, clock: TestClock) -> None:
    """Neither the time for which it was above is lost, nor told again what was told."""
    heard, figures = Heard(), Pretended(11)
    rules = [DeadLettersOpen(limit=10, for_seconds=30, every=3600)]
    for _ in range(6):
        await watch_of(app_factory(clock=clock), figures, [heard], rules).run_once()
        clock.advance(15)
    assert heard.states == ["raised"]
    assert heard.alerts[0].raised_at == START.timestamp() + 30

    clock.advance(3600)
    await watch_of(app_factory(clock=clock), figures, [heard], rules).run_once()
    assert heard.states == ["raised", "lasting"]


async def test_a_pause_is_known_to_whoever_looks_next(app_factory: Factory, ledger_url: str, clock: TestClock) -> None:
    """SEED-073: each look is another process's; the queue was paused for longer than the limit, and goes on."""
    heard, rules = Heard(), [OldestWaiting(limit=300)]
    due_since = round(clock.now() * 1000)

    async def look(*, paused: bool) -> None:
        watch = watch_of(app_factory(clock=clock), Pretended(), [heard], rules)
        records = {"mail": QueueRecords({"queued": Count(1, True)}, due_since)}  # pyright: ignore[reportArgumentType] - the one that is read
        readings = readings_of(at=clock.now(), waiting=1, paused=paused, records=records)
        watch._readings = lambda: asyncio.sleep(0, readings)
        await watch.run_once()

    await look(paused=True)
    clock.advance(819)
    await look(paused=False)
    clock.advance(299)
    await look(paused=False)
    assert heard.alerts == []

    clock.advance(15)
    await look(paused=False)
    assert [alert.message for alert in heard.alerts] == [
        "the first job of queue 'mail' has waited 314 s since the queue was resumed, more than 300"
    ]


async def test_a_queue_that_is_paused_for_an_hour_is_told_of(app_factory: Factory, clock: TestClock) -> None:
    """Among the default rules: once, with how to go on, and that it is over."""
    heard = Heard()
    watch = watch_of(app_factory(clock=clock), Pretended(), [heard], DEFAULT_RULES)

    async def look(*, paused: bool) -> list[str]:
        readings = readings_of(at=clock.now(), waiting=12, paused=paused)
        watch._readings = lambda: asyncio.sleep(0, readings)
        await watch.run_once()
        return [alert.message for alert in heard.alerts if alert.kind == "queue_paused"]

    await look(paused=True)
    clock.advance(3599)
    assert await look(paused=True) == []
    clock.advance(15)
    raised = "queue 'mail' is paused, and 12 jobs wait; `taurine queues resume mail` lets workers start them"
    assert await look(paused=True) == [raised]
    clock.advance(15)
    assert await look(paused=False) == [raised, "over: queue 'mail' is not paused"]


async def test_a_store_that_answers_no_look_for_a_minute_is_told_of(app_factory: Factory, clock: TestClock) -> None:
    """Among the default rules, and by whichever process looks; one that was late itself is no alert."""
    heard = Heard()
    watches = [watch_of(app_factory(clock=clock), Pretended(), [heard], DEFAULT_RULES) for _ in range(2)]

    async def look(number: int, waiting: int | None) -> list[str]:
        watch = watches[number % 2]
        readings = readings_of(at=clock.now(), waiting=waiting)
        watch._readings = lambda: asyncio.sleep(0, readings)
        await watch.run_once()
        clock.advance(15)
        return [f"{alert.subject}: {alert.message}" for alert in heard.alerts if alert.kind == "store_down"]

    late = [await look(number, waiting) for number, waiting in enumerate([0, None, 0, None, None, None, None, 0])]
    down = [await look(number, None) for number in range(5)]
    (raised, over) = await look(0, 0)

    assert late == [[]] * 8
    assert down == [[], [], [], [], [raised]]
    assert raised.startswith("test: the server of queues does not answer; jobs are accepted, and none starts until ")
    assert over == "test: over: the server of queues answers"


async def test_a_sink_that_fails_is_called_again_and_the_others_are_not(
    app_factory: Factory, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """With longer and longer pauses; what it says of the failure is redacted."""
    broken, well, figures = Heard("broken", failures=3), Heard("well"), Pretended(11)
    watch = watch_of(app_factory(clock=clock), figures, [broken, well])

    calls: list[int] = []
    for _ in range(9):
        await watch.run_once()
        calls.append(broken.calls)
        clock.advance(15)

    assert calls == [1, 2, 2, 3, 3, 3, 3, 4, 4]
    assert (broken.states, well.calls) == (["raised"], 1)
    assert "broken could not be told of the alert dead_letters_depth: ConnectionError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_dead_sink_is_given_up_and_hears_of_the_end(
    app_factory: Factory, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    dead, figures = Heard("dead", failures=MOST_TRIES), Pretended(11)
    watch = watch_of(app_factory(clock=clock), figures, [dead])
    for _ in range(MOST_TRIES + 5):
        await watch.run_once()
        clock.advance(1000)
    assert dead.calls == MOST_TRIES
    assert f"given up after {MOST_TRIES} tries" in caplog.text

    figures.dead = 0
    await watch.run_once()

    assert dead.states == ["over"]


async def test_one_that_dies_while_it_tells_is_made_good_by_another(app_factory: Factory, clock: TestClock) -> None:
    figures, heard = Pretended(11), Heard()

    class Hangs(Heard):
        async def tell(self, alert: Alert) -> None:
            self.calls += 1
            await asyncio.Event().wait()

    hangs = Hangs()
    dying = watch_of(app_factory(clock=clock), figures, [hangs])
    telling = asyncio.create_task(dying.run_once())
    await eventually(lambda: hangs.calls == 1)
    telling.cancel()
    await asyncio.wait({telling})
    other = watch_of(app_factory(clock=clock), figures, [heard])

    await other.run_once()
    assert heard.alerts == [], "the first one may still be telling"
    clock.advance(61)
    await other.run_once()
    assert heard.states == ["raised"]


async def test_a_rule_that_cannot_say_changes_nothing(app_factory: Factory, clock: TestClock) -> None:
    """A server that does not answer is no recovery."""
    heard = Heard()
    answers = [Pretended(11)(), _nothing(), Pretended(5)()]
    watch = watch_of(app_factory(clock=clock), Pretended(), [heard])
    for answer, states in zip(answers, (["raised"], ["raised"], ["raised", "over"]), strict=True):
        watch._readings = lambda answer=answer: answer
        await watch.run_once()
        assert heard.states == states
        clock.advance(15)


async def _nothing() -> Readings:
    return Readings(at=1, ledger=None, store=None)


async def test_a_rule_of_ones_own_and_one_that_is_broken(
    app_factory: Factory, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Moon(LimitRule):
        KIND = "moon"

        async def findings(self, look: Look) -> list[Finding]:
            return [Finding("moon", 1.0, "the moon is full")]

    class Broken(LimitRule):
        KIND = "broken"

        async def findings(self, look: Look) -> list[Finding]:
            raise ValueError("no moon")

    heard = Heard()
    watch = watch_of(app_factory(clock=clock), Pretended(), [heard], [Broken(limit=0), Moon(limit=0.5)])
    await watch.run_once()

    assert [alert.message for alert in heard.alerts] == ["the moon is full, more than 0.5"]
    assert "the rule of alerts broken failed" in caplog.text


async def test_the_hook_and_the_log_hear_of_figures(
    app_factory: Factory, clock: TestClock, caplog: pytest.LogCaptureFixture
) -> None:
    """`on_alert` gets the same object for a figure as for an event of a job."""
    caplog.set_level(logging.INFO, "taurine.jobs")
    told: list[Alert] = []
    figures = Pretended(11)
    hook = Alerts(told.append)
    watch = watch_of(app_factory(clock=clock), figures, alerts=hook)
    await watch.run_once()
    figures.dead = 0
    clock.advance(15)
    await watch.run_once()
    await hook.close()

    assert [(alert.kind, alert.state) for alert in told] == [(RULE, "raised"), (RULE, "over")]
    lines = [(record.levelname, record.getMessage()) for record in caplog.records if "alert " in record.getMessage()]
    assert [level for level, _ in lines] == ["ERROR", "INFO"]
    assert lines[1][1].startswith("alert dead_letters_depth: over: queue 'mail' has 0")


# Events -----------------------------------------------------------------------------------------------------------------------------


async def test_many_events_of_many_processes_are_one_message(
    app_factory: Factory, ledger_url: str, clock: TestClock
) -> None:
    """SEED-032, SEED-237: the first of a type, and how many there were; nobody is told of their end."""
    heard = Heard()
    rules = [EventRule(of="denied", quiet=60)]
    watches = [watch_of(app_factory(clock=clock), Pretended(), [heard], rules) for _ in range(3)]
    for watch in watches:
        await watch._backend.ready()

    await asyncio.gather(*(watch.recorder.record(DENIED) for watch in watches for _ in range(10)))
    await asyncio.gather(*(watch.recorder.record(DENIED._replace(kind="dead_letter")) for watch in watches))
    await asyncio.gather(*(watch.run_once() for watch in watches))

    (alert,) = heard.alerts
    assert (alert.kind, alert.job_id, alert.tenant, alert.state) == ("denied", "job-1", "acme", "raised")
    assert (alert.severity, alert.rule, alert.application) == ("error", "denied", "test")
    assert "hunter2" not in alert.message
    (view,) = await app_factory(clock=clock).alerts.list()
    assert (view.value, view.subject, view.limit) == (30, "mail/mail.send", None)

    clock.advance(61)
    await watches[0].run_once()
    assert await app_factory(clock=clock).alerts.list() == []
    assert heard.states == ["raised"]


async def test_who_tells_later_tells_by_the_rules_of_then(app_factory: Factory, clock: TestClock) -> None:
    """A42: the row was written by a process that hid less, and may be told again for days."""
    heard, rules = Heard(), [EventRule(of="denied", every=3600)]
    lax = app_factory(clock=clock, redact=Redact.NONE)
    strict = app_factory(clock=clock, redact=Redact.DEFAULT.also(patterns=["job-1"]))
    writes, tells = watch_of(lax, Pretended(), [], rules), watch_of(strict, Pretended(), [heard], rules)
    await writes._backend.ready()
    await writes.recorder.record(DENIED)
    await tells.run_once()

    (alert,) = heard.alerts
    assert alert.message == "not yours: password=[redacted]"
    assert alert.job_id.startswith("[redacted]#")


async def test_what_happens_while_the_ledger_is_away_is_told_later(app_factory: Factory, clock: TestClock) -> None:
    from taurine.errors import LedgerUnavailable

    heard = Heard()
    watch = watch_of(app_factory(clock=clock), Pretended(), [heard], [EventRule(of="denied")])
    await watch._backend.ready()
    database = watch.recorder._database

    class Away:
        async def write(self, work: object) -> None:
            raise LedgerUnavailable("away")

    watch.recorder._database = Away()  # pyright: ignore[reportAttributeAccessIssue] - a database that does not answer
    await watch.recorder.record(DENIED)
    watch.recorder._database = database
    await watch.run_once()

    assert heard.states == ["raised"]


async def test_a_mismatch_is_heard_once(app_factory: Factory) -> None:
    """SEED-032, SEED-237: one attempt, one call of the hook, and one message to a sink, of two workers."""
    heard, told = Heard(), list[Alert]()
    app = app_factory(on_alert=told.append, alert_sinks=[heard])

    @app.job("ticket.triage", queue="tasks")
    async def triage(number: int) -> None:
        raise PermissionError("not yours")

    handle = await triage.enqueue(1)
    async with app.worker(), app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        await eventually(lambda: heard.alerts, 10, "nobody was told")
        (view,) = await eventually(app.alerts.list)

    assert (await handle.record()).attempts == 1
    assert [alert.kind for alert in heard.alerts] == ["denied"]
    assert sorted(alert.kind for alert in told) == ["dead_letter", "denied"]
    assert heard.alerts[0][:5] == ("denied", handle.id, "ticket.triage", "tasks", None)
    assert (view.rule, view.severity, view.state) == ("denied", "critical", "firing")


async def test_an_application_without_rules_watches_nothing(app_factory: Factory) -> None:
    told: list[Alert] = []
    app = app_factory(alerts=(), on_alert=told.append)

    @app.job("ticket.triage", queue="tasks")
    async def triage(number: int) -> None:
        raise PermissionError("not yours")

    handle = await triage.enqueue(1)
    async with app.worker() as worker:
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        assert "alerts" not in {service.name for service in worker._services}

    assert "denied" in {alert.kind for alert in told}
    assert await app.alerts.list(all=True) == []


async def test_a_workers_watch_raises_and_ends_an_alert(app_factory: Factory, clock: TestClock) -> None:
    """SEED-179: as it runs, from the real figures; a pending one and one that is over are listed where all are asked
    for.
    """
    heard = Heard()
    rules = [DeadLettersOpen(limit=0)]
    app = app_factory(clock=clock, alerts=rules, alert_sinks=[heard])

    @app.job("mail.send", queue="mail", retry=Retry(attempts=1))
    async def send(number: int) -> None:
        raise ValueError("no")

    handle = await send.enqueue(1)
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)

        async def told(state: str) -> bool:
            clock.advance(15)
            return state in heard.states

        await eventually(lambda: told("raised"), 10, every=0.05)
        await app.dead_letters.discard((await app.dead_letters.list())[0])
        await eventually(lambda: told("over"), 10, every=0.05)

    assert heard.states == ["raised", "over"]
    assert await app.alerts.list() == []
    (view,) = await app.alerts.list(all=True)
    assert (view.state, view.told_at is not None) == ("over", True)


async def test_what_is_over_is_forgotten_after_a_day(app_factory: Factory, clock: TestClock) -> None:
    app, figures = app_factory(clock=clock), Pretended(11)
    watch = watch_of(app, figures)
    for dead in (11, 0):
        figures.dead = dead
        await watch.run_once()
        clock.advance(15)
    assert len(await app.alerts.list(all=True)) == 1

    clock.advance(24 * 3600)
    await watch.run_once()

    assert await app.alerts.list(all=True) == []


def test_two_sinks_of_one_name_are_refused(app_factory: Factory) -> None:
    with pytest.raises(InvalidOption, match="different names"):
        app_factory(alert_sinks=[Heard(), Heard()])
    with pytest.raises(InvalidOption, match="'log'"):
        app_factory(alert_sinks=[Heard("log")])
