"""The expiry loop: jobs that were to start by a time that has passed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.reconciling import Note, Notes, backend_of
from support.store import RawStore
from taurine.app import Taurine
from taurine.errors import JobExpired
from taurine.jobs.reconciler.expiry import Expiry
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


def _expiry(app: Taurine, **options: Any) -> Expiry:
    backend = backend_of(app)
    return Expiry(
        database=backend.database,
        take_out=backend.take_out,
        told=backend.watch.tell,
        clock=backend.clock,
        random=backend.random,
        **options,
    )


async def test_a_job_that_did_not_start_in_time_expires_and_leaves_its_queue(
    ledger_url: str, app_factory: Factory, raw: RawStore, prefix: str
) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock))
    await notes.app.migrate()
    await notes.add("soon", expires_in=10.0)
    await notes.add("later", expires_in=100.0)
    assert await _expiry(notes.app).run_once() == 0
    clock.advance(13)

    assert await _expiry(notes.app).run_once() == 1

    assert (await notes.record("soon")).status == "expired"
    assert (await notes.record("later")).status == "queued"
    assert await raw.lrange(f"{prefix}:q:wait", 0, -1) == ["note-later"]
    assert (await notes.app.compare()).total == 0


async def test_whoever_waits_hears_that_the_job_expired(app_factory: Factory) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock))
    handle = await notes.type.enqueue(Note(name="soon"), expires_in=10.0)
    clock.advance(13)
    await _expiry(notes.app).run_once()

    with pytest.raises(JobExpired, match="note-soon"):
        await handle.result(timeout=5)


async def test_more_jobs_than_one_step_takes_expire_in_one_pass(app_factory: Factory) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock))
    await notes.type.enqueue_many([Note(name=f"n{number}") for number in range(450)], expires_in=10.0)
    clock.advance(13)

    assert await _expiry(notes.app).run_once() == 450


async def test_the_server_of_queues_need_not_answer(app_factory: Factory) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock, redis_url="redis://127.0.0.1:1/0"))
    await notes.type.enqueue(Note(name="soon"), expires_in=10.0)
    clock.advance(13)

    assert await _expiry(notes.app).run_once() == 1

    assert (await notes.record("soon")).status == "expired"


async def test_log_lines_hide_what_is_personal_in_a_job_id(
    app_factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    clock = TestClock()
    notes = Notes(app_factory(clock=clock))
    await notes.add("ada@example.com", expires_in=10.0)
    clock.advance(13)

    assert await _expiry(notes.app).run_once() == 1

    assert "expired before it ran" in caplog.text
    assert "ada@example.com" not in caplog.text
