"""The hook for operators."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial

import pytest

from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import JobFailed, Permanent
from taurine.jobs.reporting.alerts import Alert, Alerts
from taurine.queue import Queue

ALERT = Alert("denied", "job\n1", "ticket.triage", "tasks", "acme", "not yours")


async def raise_all(alerts: Alerts, *raised: Alert) -> None:
    for alert in raised:
        alerts.raise_alert(alert)
    await alerts.close()


async def test_a_plain_hook_and_an_async_one_are_told_in_order() -> None:
    told: list[Alert] = []

    async def later(alert: Alert) -> None:
        await asyncio.sleep(0)
        told.append(alert)

    class Later:
        async def __call__(self, alert: Alert) -> None:
            await later(alert)

    second = ALERT._replace(kind="dead_letter")
    for hook in (told.append, later, Later(), partial(later)):
        told.clear()
        await raise_all(Alerts(hook), ALERT, second)
        assert told == [ALERT, second]


async def test_a_hook_that_fails_is_logged_and_disturbs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: Alert) -> None:
        raise RuntimeError("the pager is down")

    await raise_all(Alerts(broken), ALERT)
    assert "the alert hook failed" in caplog.text


async def test_a_hook_that_hangs_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    async def hangs(_: Alert) -> None:
        await asyncio.Event().wait()

    alerts = Alerts(hangs, patience=0.01)
    alerts.raise_alert(ALERT)
    await eventually(lambda: "the alert hook failed" in caplog.text, 5)


async def test_a_plain_hook_that_blocks_blocks_one_thread_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the event loop, nor one thread more with each alert."""
    go_on = threading.Event()

    def blocks(_: Alert) -> None:
        go_on.wait(30)

    alerts = Alerts(blocks, patience=0.01)
    try:
        for _ in range(3):
            alerts.raise_alert(ALERT)
        await eventually(lambda: caplog.text.count("the alert hook failed") == 3, 5, "the loop was blocked")
        (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("taurine alerts")]
    finally:
        go_on.set()
    await alerts.close()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()


async def test_so_many_wait_and_no_more(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taurine.jobs.reporting.alerts._MOST_WAITING", 2)
    told: list[Alert] = []
    await raise_all(Alerts(told.append), *[ALERT] * 3)
    assert told == [ALERT] * 2
    assert "is dropped: 2 wait for the hook" in caplog.text


async def test_what_is_told_too_slowly_is_dropped_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Alert] = []

    async def hangs(alert: Alert) -> None:
        told.append(alert)
        await asyncio.Event().wait()

    await raise_all(Alerts(hangs, patience=0.1), *[ALERT] * 50)
    assert len(told) < 50
    assert "alerts are dropped: the worker ends" in caplog.text


async def test_denied_access_is_an_error_line_without_a_hook_too(caplog: pytest.LogCaptureFixture) -> None:
    await raise_all(Alerts(None), ALERT)
    (line,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "not yours" in line.getMessage()
    assert "\n" not in line.getMessage()


async def test_the_queue_is_told_before_the_hook_has_answered(
    app_factory: Callable[..., Taurine], redis_socket_url: str, prefix: str
) -> None:
    """A dead letter must not hold its slot and its lease for as long as somebody's pager takes."""
    go_on = asyncio.Event()
    told: list[str] = []

    async def slow(alert: Alert) -> None:
        await go_on.wait()
        told.append(alert.kind)

    app = app_factory(on_alert=slow)

    @app.job("ticket.triage", queue="tasks")
    async def task(number: int) -> None:
        raise Permanent("never")

    handle = await task.enqueue(1)
    async with Queue("tasks", redis_socket_url, prefix=prefix) as queue, app.worker() as worker:
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)

        async def settled() -> bool:
            return (await queue.counts())["failed"] == 1 and not worker.running

        await eventually(settled, 3, "the job waits for the hook")
        assert told == []
        go_on.set()
    assert told == ["dead_letter"], "the worker does not end before the hook was told"
