"""A worker as a context manager: the block begins when it works, or when it waits for a server; a start that failed is
raised.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from support import process_handlers
from support.eventually import eventually
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.errors import InvalidOption, StoreRefused
from taurine.queue import Worker


async def answer(number: int) -> int:
    return number + 1


async def test_the_block_begins_when_it_is_ready(app: Taurine) -> None:
    app.job("number.raise", queue="numbers")(answer)
    async with app.worker() as worker:
        assert worker.is_ready


async def test_a_start_that_failed_is_raised_before_the_block(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handler's module in its process has something else under its name."""
    app.job("number.count", queue="numbers", runs_in="process")(process_handlers.pid)
    monkeypatch.setattr(process_handlers, "pid", process_handlers.double)
    began = False
    with pytest.raises(InvalidOption, match="another object stands there"):
        async with app.worker():
            began = True
    assert not began


async def test_a_server_that_turns_it_away_is_a_start_that_failed(
    app: Taurine, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.job("number.raise", queue="numbers")(answer)

    async def refused(*_: Any, **__: Any) -> None:
        raise StoreRefused("NOPERM")

    monkeypatch.setattr(Worker, "run", refused)
    began = False
    with pytest.raises(StoreRefused, match="NOPERM"):
        async with app.worker():
            began = True
    assert not began


async def test_a_server_that_is_down_is_waited_for_within_the_block(
    app_factory: Callable[..., Taurine], server_factory: Callable[..., ValkeyServer]
) -> None:
    server = server_factory()
    server.stop()
    app = app_factory(redis_url=server.url)
    raised = app.job("number.raise", queue="numbers")(answer)
    async with app.worker() as worker:
        assert not worker.is_ready
        server.start()
        assert await (await raised.enqueue(4)).result(timeout=30) == 5


async def test_it_may_be_entered_while_all_its_queues_are_paused(app: Taurine) -> None:
    app.job("number.raise", queue="numbers")(answer)
    worker = app.worker()
    await worker.pause()
    async with asyncio.timeout(30), worker:
        worker.resume()
        await eventually(lambda: worker.is_ready or None, 20)


async def test_it_is_entered_once(app: Taurine) -> None:
    raised = app.job("number.raise", queue="numbers")(answer)
    async with asyncio.timeout(30), app.worker() as worker:
        with pytest.raises(InvalidOption, match="runs already"):
            await worker.__aenter__()
        assert await (await raised.enqueue(1)).result(timeout=10) == 2, "the first block goes on"


async def test_a_start_that_is_cancelled_leaves_nothing(app: Taurine) -> None:
    app.job("number.raise", queue="numbers")(answer)
    before = asyncio.all_tasks()
    for steps in (0, 1, 2, 5, 20):
        worker = app.worker()
        entering = asyncio.create_task(worker.__aenter__())
        for _ in range(steps):
            await asyncio.sleep(0)
        entering.cancel()
        await asyncio.wait({entering})
        if not entering.cancelled():  # it was quicker
            await worker.stop()
        assert not [task for task in asyncio.all_tasks() - before if "worker" in task.get_name()]


async def test_an_end_with_an_error_in_the_background_is_logged_at_once(
    app: Taurine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Who enters the block hears of it at the end only, which may be in a week."""
    app.job("number.raise", queue="numbers")(answer)
    run, fail = Worker.run, asyncio.Event()

    async def fails_later(self: Worker, **options: Any) -> None:
        working = asyncio.create_task(run(self, **options))
        await fail.wait()
        await self.stop(grace=0)
        await working
        raise StoreRefused("NOPERM")

    monkeypatch.setattr(Worker, "run", fails_later)
    worker = app.worker()
    await worker.__aenter__()
    fail.set()

    def failed() -> Any:
        return [record for record in caplog.records if "has failed" in record.getMessage()]

    (record,) = await eventually(failed, 20, "nothing was logged")
    assert record.levelno == logging.ERROR
    with pytest.raises(StoreRefused, match="NOPERM"):
        await worker.__aexit__()
