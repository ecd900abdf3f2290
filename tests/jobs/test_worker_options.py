"""Options of `Taurine.worker`: presets, checks at once, and the way to other processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from support.errands import process_errand
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.worker.options import WorkerRules
from taurine.ledger.retention import RetentionPolicy
from taurine.options import RateLimit


class Letter(BaseModel):
    to: str


def declare(app: Taurine) -> None:
    """Three queues: one of async handlers, one whose handlers run in processes, one that is only enqueued to."""

    @app.job("letter.send", queue="letters")
    async def send(letter: Letter) -> None:
        pass

    app.job("errand.do", queue="sums", runs_in="process")(process_errand)
    app.declare("letter.print", Letter, queue="printing")


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    app = app_factory(concurrency=7)
    declare(app)
    return app


async def test_concurrency_is_the_settings_by_default(app: Taurine) -> None:
    worker = app.worker()
    assert worker.queues == ["letters", "sums"], "what has a handler here"
    assert worker.concurrency("letters") == 7
    assert worker.concurrency("sums") == (os.cpu_count() or 1), "more would be claimed than can run"


@pytest.mark.parametrize(
    ("given", "letters", "sums"),
    [
        (3, 3, 3),
        ("io", 100, 100),
        ("cpu", os.cpu_count() or 1, os.cpu_count() or 1),
        ({"letters": "io", "sums": 2}, 100, 2),
        ({"sums": 1}, 7, 1),
    ],
)
async def test_presets_of_concurrency(app: Taurine, given: Any, letters: int, sums: int) -> None:
    """CON-19, SEED-165."""
    worker = app.worker(concurrency=given)
    assert (worker.concurrency("letters"), worker.concurrency("sums")) == (letters, sums)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"queues": "letters"}, "expected queues to be a list of names, got the text 'letters'"),
        ({"queues": ["leters"]}, "no job type goes to queue 'leters'; did you mean 'letters'"),
        ({"concurrency": {"leters": 2}}, "no job type goes to queue 'leters'; did you mean 'letters'"),
        ({"rate_limits": {"sum": RateLimit(1, 1)}}, "no job type goes to queue 'sum'; did you mean 'sums'"),
        ({"concurrency": "fast"}, "expected concurrency to be a number, 'io' or 'cpu', got 'fast'"),
        ({"concurrency": {"letters": 0}}, "expected concurrency to be a whole number from 1, got 0"),
        ({"concurrency": True}, "expected concurrency to be a whole number from 1, got True"),
        ({"max_crashes": 0}, "expected max_crashes to be a whole number from 1, got 0"),
        ({"max_memory": 0}, "expected max_memory"),
        ({"max_jobs_per_process": -1}, "expected max_jobs_per_process"),
        ({"lease": 0}, "expected lease to be from 0.1"),
        ({"grace": -1}, "expected grace to be from 0"),
        ({"greace": 1}, "unknown option 'greace' of a worker; did you mean 'grace'"),
    ],
)
async def test_options_are_checked_before_anything_runs(app: Taurine, options: Any, message: str) -> None:
    with pytest.raises(InvalidOption) as raised:
        app.worker(**options)
    assert message in str(raised.value)


async def test_nothing_to_work_on(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory()
    app.declare("letter.print", Letter)
    with pytest.raises(InvalidOption, match="no job type of the catalog has a handler in this process"):
        app.worker()


def test_the_rules_reach_another_process_as_they_are() -> None:
    rules = WorkerRules.made(
        {
            "queues": ["a", "b", "a"],
            "concurrency": {"a": "io", "b": 2},
            "rate_limits": {"a": RateLimit(50, timedelta(minutes=1))},
            "lease": timedelta(seconds=2),
            "grace": 5,
            "max_memory": 1 << 30,
            "redis_url": "redis://:secret@localhost/1",
            "upkeep": Upkeep(reconcile_every=None, retention=RetentionPolicy(records=timedelta(days=2))),
            "name": "w",
        }
    )
    assert rules.queues == ("a", "b")
    assert WorkerRules.from_json(rules.to_json()) == rules
    assert "secret" not in repr(rules)
