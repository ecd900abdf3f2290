"""The calls for code without an event loop, and applications on several loops (SEED-105, SEED-108)."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.desk import declare_triage, recorded, ticket
from support.eventually import eventually
from taurine import Taurine
from taurine.errors import InvalidOption, PayloadInvalid, RecordNotFound, WaitTimeout


async def test_from_several_threads_at_once(app: Taurine) -> None:
    triage = declare_triage(app)
    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(triage.enqueue_sync, ticket(number // 2)) for number in range(40)]
        handles = [await asyncio.wrap_future(call) for call in calls]
    assert sum(not handle.duplicate for handle in handles) == 20
    assert len(await recorded(app)) == 20


async def test_all_that_a_handle_does(app: Taurine) -> None:
    triage = declare_triage(app)

    def work() -> tuple[str, str]:
        handle = triage.enqueue_many_sync([ticket(1), ticket(2)])[1]
        with pytest.raises(WaitTimeout):
            handle.result_sync(timeout=0.01)
        record = handle.record_sync()
        return record.status, handle.cancel_sync(reason="enough").status

    assert await asyncio.to_thread(work) == ("queued", "cancelled")


async def test_by_name_and_errors(app: Taurine) -> None:
    declare_triage(app)
    handle = await asyncio.to_thread(app.enqueue_sync, "ticket.triage", ticket(), priority=3)
    assert (await handle.record()).priority == 3
    with pytest.raises(PayloadInvalid):
        await asyncio.to_thread(app.enqueue_sync, "ticket.triage", {})
    assert await asyncio.to_thread(app.get_sync, "none") is None
    with pytest.raises(RecordNotFound):
        await asyncio.to_thread(app.cancel_sync, "none")


async def test_on_a_loop_they_are_refused(app: Taurine) -> None:
    """They would block it, for ever if what they wait for needs it."""
    triage = declare_triage(app)
    handle = await triage.enqueue(ticket())
    calls: list[Callable[[], Any]] = [
        lambda: triage.enqueue_sync(ticket()),
        lambda: triage.enqueue_many_sync([ticket()]),
        handle.record_sync,
        handle.result_sync,
        handle.cancel_sync,
    ]
    for call in calls:
        with pytest.raises(InvalidOption, match="with await"):
            call()


async def test_a_thread_passes_on_its_context(app_factory: Callable[..., Taurine]) -> None:
    """A sync handler's enqueue knows its job, and a request's variables reach the hook."""
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen: list[str] = []
    app = app_factory(authorize=lambda request: seen.append(tenant.get()))

    def request() -> None:
        tenant.set("acme")
        declare_triage(app).enqueue_sync(ticket())

    await asyncio.to_thread(request)
    assert seen == ["acme"]


def _run_on_a_loop_of_its_own(work: Callable[[], Any]) -> Any:
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(asyncio.run(work())))
    thread.start()
    thread.join()
    return result[0]


async def test_several_loops_one_after_the_other(app: Taurine) -> None:
    """`asyncio.run` twice in one process: sockets belong to a loop, the application does not."""
    triage = declare_triage(app)

    async def once() -> bool:
        handle = await triage.enqueue(ticket())
        await app.close()
        return handle.duplicate

    assert [await asyncio.to_thread(_run_on_a_loop_of_its_own, once) for _ in range(3)] == [False, True, True]


async def test_several_loops_at_once(app: Taurine) -> None:
    triage = declare_triage(app)

    async def some(start: int) -> int:
        handles = await asyncio.gather(*(triage.enqueue(ticket(number)) for number in range(start, start + 20)))
        await app.close()
        return sum(not handle.duplicate for handle in handles)

    new = await asyncio.gather(
        some(0), *(asyncio.to_thread(_run_on_a_loop_of_its_own, lambda: some(10)) for _ in range(2))
    )
    assert sum(new) == 30


async def test_close_closes_everything(app_factory: Callable[..., Taurine], raw: Any, tmp_path: Path) -> None:
    """SEED-108: connections, threads, tasks and files; and what is used afterwards is opened anew."""
    app = app_factory("closing")
    triage = declare_triage(app)
    names, clients = {thread.name for thread in threading.enumerate()}, len(await raw.client_list())
    tasks = asyncio.all_tasks()
    await triage.enqueue(ticket(1))
    await asyncio.to_thread(triage.enqueue_sync, ticket(2))
    await app.close()
    await eventually(lambda: _is(raw, clients), 5, "connections are left")
    assert {thread.name for thread in threading.enumerate() if "taurine" in thread.name} <= names
    assert asyncio.all_tasks() == tasks
    await app.close()
    assert (await triage.enqueue(ticket(1))).duplicate


async def _is(raw: Any, expected: int) -> bool:
    found = len(await raw.client_list())
    assert found <= expected, f"{found} connections"
    return True


async def test_as_a_context_manager(app_factory: Callable[..., Taurine]) -> None:
    async with app_factory("managed") as app:
        await declare_triage(app).enqueue(ticket())


def test_a_script_that_forgets_to_close_ends(tmp_path: Path, redis_socket_url: str, prefix: str) -> None:
    """A thread with a loop in it must not keep the interpreter."""
    script = f"""
        from pydantic import BaseModel
        from taurine import Taurine

        class Order(BaseModel):
            id: str

        app = Taurine("shop", redis_url={redis_socket_url!r}, database_url="sqlite:///shop.db", prefix={prefix!r})
        ship = app.declare("order.ship", Order, job_id="order:{{id}}")
        print(ship.enqueue_sync(Order(id="7")).id)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "order:7\n"), done.stderr


@pytest.mark.parametrize("server", ["shared", "embedded", "down"])
def test_a_program_that_closes_at_its_exit_ends_in_silence(
    tmp_path: Path, redis_socket_url: str, prefix: str, server: str
) -> None:
    """As the recipe for Flask does: the interpreter gives no thread by then, and something may be left to hand over."""
    url = {"shared": redis_socket_url, "embedded": None, "down": "redis://127.0.0.1:1"}[server]
    script = f"""
        import atexit
        from taurine import Taurine

        app = Taurine("shop", redis_url={url!r}, database_url="sqlite:///shop.db", home="home", prefix={prefix!r})
        ship = app.declare("order.ship", int)
        atexit.register(app.close_sync)
        ship.enqueue_sync(7, job_id="7")
        print(app.get_sync("7").status)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("jobs are recorded and wait")]
    assert (done.returncode, done.stdout, said) == (0, "queued\n", [])


def test_what_needs_an_event_loop_says_so(app_factory: Callable[..., Taurine]) -> None:
    with pytest.raises(InvalidOption, match="this needs a running event loop"):
        app_factory().worker()
