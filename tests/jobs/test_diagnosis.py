"""What `taurine doctor` finds of those who are to work: `Diagnosis`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from taurine.app import Taurine
from taurine.jobs.operations.diagnosis import Diagnosis, Finding

Factory = Callable[..., Taurine]


@dataclass
class Tick:
    """A schedule of the queue `mail` that ought to have ticked ten minutes ago."""

    id: str = "tick"
    queue: str = "mail"
    text: str = "every minute"
    next_run: datetime | None = None
    declared: bool = True


@pytest.fixture
def app(app_factory: Factory) -> Taurine:
    made = app_factory()
    made.declare("mail.send", int, queue="mail")
    return made


async def found(app: Taurine) -> dict[str, Finding]:
    async def schedules() -> list[Tick]:
        return [Tick(next_run=datetime.now(UTC) - timedelta(seconds=609))]

    looked = await Diagnosis(app._backend(), queues=app.queues, schedules=schedules).findings()
    return {finding.check: finding for finding in looked}


async def test_queued_types_that_are_not_declared(app: Taurine, app_factory: Factory) -> None:
    newer = app_factory()
    newer.declare("new.thing", int, queue="mail")
    newer.declare("new.other", int, queue="mail")
    await app.enqueue("mail.send", 1)
    assert "types" not in await found(app)
    await newer.enqueue_many("new.thing", [1, 2])
    await newer.enqueue("new.other", 1, delay=600)

    types = (await found(app))["types"]

    assert (types.level, types.details["undeclared"][0]) == (
        "warn",
        {"type": "new.thing", "queue": "mail", "number": 2},
    )
    assert types.text.endswith("2 of type 'new.thing' in queue 'mail', 1 of type 'new.other' in queue 'mail'")
    assert "start a worker of the version that declares them" in str(types.remedy)


async def test_a_flood_of_made_up_types_is_a_line(app: Taurine, app_factory: Factory) -> None:
    newer = app_factory()
    for number in range(12):
        newer.declare(f"new.{number:02}", int, queue="mail")
        await newer.enqueue(f"new.{number:02}", 1)

    types = (await found(app))["types"]

    assert types.text.count(" of type ") == 10
    assert types.text.endswith(", 2 of others")


async def test_a_late_tick_of_a_paused_queue_waits_for_its_resume(app: Taurine) -> None:
    await app.enqueue("mail.send", 1)
    late = (await found(app))["schedule tick"]
    await app.queues.pause("mail")
    paused = (await found(app))["schedule tick"]

    assert (late.level, late.remedy) == ("fail", "start a worker for its queue")
    assert "its tick is 10 min late" in late.text
    assert (paused.level, paused.remedy) == ("warn", "`taurine queues resume mail` when it may go on")
    assert paused.text.endswith("its tick is 10 min late, and its queue 'mail' is paused")
