"""Which loops a worker runs, and that the ledger's retention follows what job types declare."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from jobs.reconciling import NO_UPKEEP, Note, Notes, backend_of, until_status
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.jobs.catalog.declaring import JobOptions
from taurine.jobs.reconciler.follower import Follower
from taurine.jobs.reconciler.retention import Retention
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.reporting.alerts import Alerts
from taurine.ledger.retention import RetentionPolicy
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


def _retention(app: Taurine, upkeep: Upkeep) -> Retention:
    return next(service for service in upkeep.services(backend_of(app), Alerts(None)) if isinstance(service, Retention))


async def test_records_are_kept_as_their_type_declares(app_factory: Factory) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock), keep_records=3600.0)
    async with notes.working():
        await notes.type.enqueue(Note(name="a"))
        await until_status(notes, "a", "completed")
    retention = _retention(notes.app, Upkeep())
    clock.advance(3000)
    assert (await retention.run_once()).records == 0
    clock.advance(1000)

    assert (await retention.run_once()).records == 1

    assert await notes.app.get("note-a") is None


async def test_the_workers_policy_comes_before_the_types(app_factory: Factory) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock), keep_records=3600.0)
    async with notes.working():
        await notes.type.enqueue(Note(name="a"))
        await until_status(notes, "a", "completed")
    clock.advance(1000)
    policy = RetentionPolicy(by_type={"note": timedelta(seconds=500)})

    assert (await _retention(notes.app, Upkeep(retention=policy)).run_once()).records == 1


async def test_records_of_types_that_are_not_declared_here_stay(app_factory: Factory) -> None:
    """Another program declares them, and there it is written how long they are kept."""
    clock = TestClock()
    notes = Notes(app_factory(clock=clock), keep_records=86_400.0 * 3650)
    async with notes.working():
        await notes.type.enqueue(Note(name="a"))
        await until_status(notes, "a", "completed")
    other = app_factory(clock=clock)
    clock.advance(40 * 86_400)

    assert (await _retention(other, Upkeep()).run_once()).records == 0
    assert await notes.app.get("note-a") is not None

    named = RetentionPolicy(by_type={"note": timedelta(days=1)})
    assert (await _retention(other, Upkeep(retention=named)).run_once()).records == 1


@pytest.mark.parametrize(
    ("own", "kept_days"),
    [({}, 7), ({"keep_records": None}, 7), ({"keep_records": timedelta(days=9)}, 9), ({"keep_records": True}, None)],
)
async def test_the_policy_is_for_types_without_an_age_of_their_own(
    app_factory: Factory, own: dict[str, Any], kept_days: int | None
) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock), **own)
    async with notes.working():
        await notes.type.enqueue(Note(name="a"))
        await until_status(notes, "a", "completed")
    retention = _retention(notes.app, Upkeep(retention=RetentionPolicy(records=timedelta(days=7))))
    clock.advance(86_400 * ((kept_days or 3650) - 0.5))
    assert (await retention.run_once()).records == 0
    clock.advance(86_400)

    assert (await retention.run_once()).records == (0 if kept_days is None else 1)


@pytest.mark.parametrize("keep", [False, -1, "for ever"])
def test_an_age_that_is_none_is_refused(keep: Any) -> None:
    with pytest.raises(InvalidOption, match="keep_records"):
        JobOptions(keep_records=keep)


async def test_the_loops_of_a_worker(app_factory: Factory) -> None:
    notes = Notes(app_factory())
    notes.app.queue("q", shared=True)
    backend = backend_of(notes.app)

    usual, few = (upkeep.services(backend, Alerts(None)) for upkeep in (Upkeep(), NO_UPKEEP))

    assert [service.name for service in usual] == ["follower of q", "reconciler", "full look", "expiry", "retention"]
    assert [type(service) for service in few] == [Follower]


def test_a_time_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidOption, match="reconcile_every"):
        Upkeep(reconcile_every=0.0)
