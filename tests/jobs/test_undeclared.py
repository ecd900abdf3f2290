"""Jobs whose type no working process declares: who hears of them, and how often."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete

from jobs.reconciling import Notes, backend_of, undeclared
from support.eventually import eventually
from taurine.app import Taurine
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.ledger.records import NewRecord, insert_records
from taurine.ledger.schema import job
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


async def _waiting(app: Taurine, *kinds: tuple[str, str]) -> None:
    """A job of each of these types, for these queues, that was accepted two minutes ago and not handed over."""
    backend = backend_of(app)
    await backend.ready()
    now = round(backend.clock.now() * 1000)
    records = [
        NewRecord(id=f"{name}-{queue}", type=name, queue=queue, payload="{}", created_at=now - 120_000, max_attempts=1)
        for name, queue in kinds
    ]
    await backend.database.write(lambda connection: insert_records(connection, records))


def _lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    told: list[Any] = [line for line in caplog.records if "declares no such type" in line.getMessage()]
    assert all(line.levelno == logging.WARNING for line in told)
    return sorted((line.job_type, line.queue) for line in told)


async def test_a_type_is_alerted_when_a_second_look_finds_it_and_again_after_an_hour(
    ledger_url: str, app_factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """SEED-139: as after a type was renamed.

    One alert, though it waits for two queues, and though more than one is looked at in an hour.
    """
    clock = TestClock()
    app = app_factory(clock=clock)
    Notes(app)
    await app.migrate()
    await _waiting(app, ("note.old", "q"), ("note.old", "r"), ("note", "q"))
    heard: list[Alert] = []
    alerts = Alerts(heard.append)
    jobs = undeclared(app, alerts)

    await jobs.look()
    assert _lines(caplog) == [("note.old", "q")]
    await jobs.look()
    await alerts.close()
    assert heard == [], "it may be another program's, which is about to hand them over"

    for _ in range(59):
        clock.advance(60)
        await jobs.look()
    await alerts.close()
    (alert,) = heard
    assert (alert.kind, alert.job_id, alert.job_type) == ("undeclared_type", "", "note.old")
    assert "2 jobs of type 'note.old'" in alert.message
    assert "start a process that does" in alert.message

    for _ in range(3):
        clock.advance(60)
        await jobs.look()
    await alerts.close()
    assert len(heard) == 2
    assert _lines(caplog) == [("note.old", "q")]


async def test_what_another_program_hands_over_meanwhile_is_no_alert(app_factory: Factory) -> None:
    clock = TestClock()
    app = app_factory(clock=clock)
    Notes(app)
    heard: list[Alert] = []
    alerts = Alerts(heard.append)
    jobs = undeclared(app, alerts)
    await _waiting(app, ("theirs", "q"))
    await jobs.look()
    await backend_of(app).database.write(lambda connection: connection.execute(delete(job)))

    clock.advance(60)
    await jobs.look()
    await _waiting(app, ("theirs", "q"))
    clock.advance(60)
    await jobs.look()

    await alerts.close()
    assert heard == []


async def test_a_worker_tells_the_hook_of_its_application(app_factory: Factory) -> None:
    clock = TestClock()
    heard: list[Alert] = []
    app = app_factory(clock=clock, on_alert=heard.append, alerts=())
    Notes(app)
    await _waiting(app, ("note.old", "q"))

    async with app.worker(upkeep=Upkeep(reconcile_every=10, expire_every=None, purge_every=None)):

        def told() -> bool:
            clock.advance(1)
            return [alert.kind for alert in heard] == ["undeclared_type"]

        await eventually(told, 20, "nobody was alerted")
