"""What the tests of alerts share: a watch that a test runs by hand, and a sink that keeps what it is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taurine.app import Taurine
from taurine.jobs.operations.readings import LedgerReadings, QueueReadings, Readings, ScheduleReading, StoreReadings
from taurine.jobs.reporting.alerts import Alert
from taurine.observe.alerts import AlertRule, DeadLettersOpen, Sink
from taurine.observe.alerts.watch import AlertWatch
from taurine.queue.states import JobState

__all__ = ["Heard", "Pretended", "readings_of", "watch_of"]


class Heard:
    """A sink. failures: so many times it fails first."""

    def __init__(self, name: str = "heard", *, failures: int = 0) -> None:
        self.name = name
        self.failures = failures
        self.alerts: list[Alert] = []
        self.calls = 0

    @property
    def states(self) -> list[str]:
        return [alert.state for alert in self.alerts]

    async def tell(self, alert: Alert) -> None:
        self.calls += 1
        if self.calls <= self.failures:
            raise ConnectionError("nobody there: password=hunter2")
        self.alerts.append(alert)


def readings_of(
    *,
    at: float = 1000.0,
    waiting: int | None = None,
    dead: int = 0,
    late: float = 0.0,
    paused: bool = False,
    **ledger: Any,
) -> Readings:
    """What both servers say of the queue `mail`. waiting: jobs in line; None where its server does not answer."""
    counts: dict[JobState, int] = {"waiting": waiting or 0}
    store = StoreReadings(
        queues={"mail": QueueReadings(counts, paused)}, schedules=[ScheduleReading("nightly", "mail", True, late)]
    )
    usual: dict[str, Any] = {"records": {}, "undelivered": {}, "totals": [], "workers": []}
    found = LedgerReadings(dead_letters={"mail": dead}, **(usual | ledger))
    return Readings(at=at, ledger=found, store=None if waiting is None else store)


class Pretended:
    """Figures that a test sets. dead: open dead letters of the queue `mail`."""

    def __init__(self, dead: int = 0) -> None:
        self.dead = dead
        self.looks = 0

    async def __call__(self) -> Readings:
        self.looks += 1
        return readings_of(dead=self.dead)


def watch_of(
    app: Taurine,
    figures: Pretended,
    sinks: Sequence[Sink] = (),
    rules: Sequence[AlertRule] = (DeadLettersOpen(limit=10, lower=5),),
    **options: Any,
) -> AlertWatch:
    """A watch that is not started: `run_once` is a pass."""
    if "mail" not in app.catalog.queues:
        app.declare("mail.send", int, queue="mail")
    backend = app._backend()
    return AlertWatch(backend, rules, sinks, application=app.name, readings=figures, **options)
