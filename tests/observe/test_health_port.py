"""The health port: what probes of a worker hear, also when its event loop is stuck, and of several processes from their
parent.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import httpx2
import pytest

from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.jobs.worker.worker import JobWorker
from taurine.observe.health_port import WorkerHealth
from taurine.testing import TestClock

OFTEN = Upkeep(report_every=0.05)


def port_of(worker: JobWorker) -> int:
    health = worker._health
    assert isinstance(health, WorkerHealth)
    assert health.port
    return health.port


def get(port: int, path: str, **headers: str) -> httpx2.Response:
    """Ask from a thread of the test's own, as a probe does."""
    return httpx2.get(f"http://127.0.0.1:{port}{path}", headers=headers, timeout=10)


async def ask(port: int, path: str, **headers: str) -> httpx2.Response:
    return await asyncio.to_thread(get, port, path, **headers)


@pytest.fixture
def app(app_factory: Callable[..., Taurine]) -> Taurine:
    app = app_factory()
    declare(app)
    return app


def declare(app: Taurine) -> None:
    @app.job("report.render", queue="reports")
    async def render(_: int) -> None: ...

    del render


async def test_a_worker_answers_for_itself(app: Taurine) -> None:
    """SEED-185, SEED-190, A24: live and ready say a word; metrics are for this machine."""
    async with app, app.worker(health_port=0, upkeep=OFTEN) as worker:
        port = port_of(worker)
        live, ready = await ask(port, "/health/live"), await ask(port, "/health/ready")
        assert (live.status_code, live.json()) == (200, {"status": "ok", "healthy": True})
        assert (ready.status_code, ready.json()) == (200, {"status": "ready", "healthy": True})
        metrics = (await ask(port, "/metrics")).text
        assert 'taurine_process_loop_late{loop="event loop"} 0.0' in metrics
        assert 'taurine_up{store="ledger"} 1.0' in metrics
        assert (await ask(port, "/other")).status_code == 404
        assert (await asyncio.to_thread(httpx2.post, f"http://127.0.0.1:{port}/health/live")).status_code == 501
        assert (await ask(port, "/metrics", Host="evil.example.com")).status_code == 421
    with pytest.raises(httpx2.ConnectError):
        await ask(port, "/health/live")


async def test_a_stuck_event_loop_is_told_of_by_the_thread(
    app_factory: Callable[..., Taurine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """F60: the loop does not turn, and the probe hears so all the same; within twice the time that a read blocks."""
    clock = TestClock()
    app = app_factory(clock=clock)
    declare(app)
    monkeypatch.setattr("taurine.observe.health_port._LOOP_SECONDS", 0.2)
    asked, answered = Event(), list[Any]()
    async with app, app.worker(health_port=0) as worker:
        port = port_of(worker)
        assert (await ask(port, "/health/live")).status_code == 200

        def probe() -> None:
            asked.wait(5)
            answered.append(get(port, "/health/live"))
            clock.advance(10.1)
            answered.append(get(port, "/health/live"))
            answered.append(get(port, "/health/ready"))
            answered.append(get(port, "/metrics"))

        probing = asyncio.get_running_loop().run_in_executor(None, probe)
        await asyncio.sleep(0)
        asked.set()
        deadline = time.monotonic() + 30
        while len(answered) < 4 and time.monotonic() < deadline:  # this is the event loop, and it is stuck here
            time.sleep(0.01)  # noqa: ASYNC251 - on purpose
        await probing
    before, stuck, ready, metrics = answered
    assert before.status_code == 200
    assert (stuck.status_code, stuck.json()) == (503, {"status": "stuck", "healthy": False})
    assert ready.status_code == 503
    assert 'taurine_process_loop_late{loop="event loop"} 1.0' in metrics.text
    assert 'taurine_up{store="ledger"} 0.0' in metrics.text


async def test_a_wedged_loop_is_unhealthy_and_named_in_the_log(
    app_factory: Callable[..., Taurine], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F60, at a failpoint in one service: its pass never ends."""
    clock = TestClock()
    app = app_factory(clock=clock)
    declare(app)
    entered = asyncio.Event()

    async def hang() -> Any:
        entered.set()
        await asyncio.Event().wait()

    async with app, app.worker(health_port=0) as worker:
        port = port_of(worker)
        (expiry,) = [service for service in worker._services if service.name == "expiry"]
        monkeypatch.setattr(expiry, "run_once", hang)
        await eventually(lambda: clock.sleepers > 5)
        clock.advance(6)
        await asyncio.wait_for(entered.wait(), 5)
        for _ in range(61):  # the other loops turn meanwhile
            clock.advance(1)
            await asyncio.sleep(0.005)
        answer = await eventually(lambda: _unhealthy(port))
        assert answer is not None
        assert answer.json() == {"status": "stuck", "healthy": False}
    assert "expiry" in caplog.text


async def _unhealthy(port: int) -> httpx2.Response | None:
    answer = await ask(port, "/health/live")
    return answer if answer.status_code == 503 else None


async def test_without_the_store_a_worker_lives_and_is_not_ready(app_factory: Callable[..., Taurine]) -> None:
    """An outage restarts nothing: whoever is killed for it would come back to the same outage."""
    app = app_factory(redis_url="redis://127.0.0.1:1")
    declare(app)
    async with app:
        worker = app.worker(health_port=0)
        running = asyncio.create_task(worker.run())
        await eventually(lambda: _bound(worker))
        port = port_of(worker)
        assert (await ask(port, "/health/live")).status_code == 200
        assert (await ask(port, "/health/ready")).status_code == 503
        assert 'taurine_up{store="store"} 0.0' in (await ask(port, "/metrics")).text
        await worker.stop(grace=0)
        await running


def _bound(worker: JobWorker) -> int | None:
    return worker._health.port if isinstance(worker._health, WorkerHealth) else None


async def test_beyond_this_machine_metrics_need_the_token(app: Taurine) -> None:
    """A23, A24."""
    async with app, app.worker(health_port=0, health_host="0.0.0.0") as worker:
        port = port_of(worker)
        assert (await ask(port, "/metrics")).status_code == 401
        assert (await ask(port, "/health/live", Host="10.0.0.7:8080")).status_code == 200
    token = "0123456789abcdef"
    async with app.worker(health_port=0, health_host="0.0.0.0", metrics_token=token) as worker:
        port = port_of(worker)
        assert (await ask(port, "/metrics", Authorization="Bearer wrong")).status_code == 401
        assert (await ask(port, "/metrics", Authorization=f"Bearer {token}")).status_code == 200


async def test_a_port_that_is_taken_is_said_at_the_start(app: Taurine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            InvalidOption, match=f"cannot be opened at 127.0.0.1:{port}: Address already in use; name another"
        ):
            async with app.worker(health_port=port):
                pass
    for wrong in ({"health_port": 70_000}, {"health_port": -1}, {"metrics_token": "short"}):
        with pytest.raises(InvalidOption):
            app.worker(**wrong)  # pyright: ignore[reportArgumentType, reportCallIssue] - of the test
