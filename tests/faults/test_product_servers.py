"""F13, F14, F22, with whole applications: connections, scripts and the server of queues go away under load, over a
ledger.

Scaled for two busy cores: 1,000 jobs of 10 ms on 2 workers x 10, faults by progress, an outage of 3.5 s. The checker
judges by what the records say; besides, every record must agree with its queue.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from faults.job_process import Load, make_application
from faults.jobs import backend_of, enqueue_all, generations, hits_all_leases, job_process, judge, until_all_ended
from faults.workers import cpu_seconds
from support.eventually import eventually
from support.history import History
from support.server import ValkeyServer
from support.store import RawStore, open_store
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.database import Database

Figure = Callable[[str], None]
ServerFactory = Callable[..., ValkeyServer]

TOTAL = 1000


@pytest.fixture
def settings(tmp_path: Path, prefix: str, ledger: str) -> dict[str, Any]:
    """What the processes and the test have in common, but for the server."""
    return {
        "prefix": prefix,
        "home": str(tmp_path),
        "database_url": ledger,
        "concurrency": 10,
        "lease": 3.0,
        "keep": TOTAL * 2,
    }


async def _accept(task: JobType[Load, str], history: History, name: str) -> float:
    """Enqueue one job; the seconds that it took."""
    asked = time.monotonic()
    with history.enqueuing(name):
        await task.enqueue(Load(name=name))
    return time.monotonic() - asked


async def _put_back(database: Database) -> int:
    """Jobs that run as a new generation, since their queue had them no more."""
    return sum(generation > 0 for generation in (await generations(database)).values())


async def _under_load(
    settings: dict[str, Any],
    history: History,
    figure: Figure,
    fault: Callable[[], Awaitable[object]],
    *,
    faults: int,
) -> list[str]:
    """Run the load with `fault` at even shares of its progress, also for the producer, and judge; what the workers said
    on stderr.

    No fault explains a repeat, since it takes nobody's lease.
    """
    app, task, _ = make_application(settings)
    async with app, job_process(settings, history, "w1") as one, job_process(settings, history, "w2") as two:
        database = backend_of(app).database
        await enqueue_all(task, history, [f"j{number}" for number in range(TOTAL)])
        slowest = 0.0
        for number in range(1, faults + 1):
            await until_all_ended(database, TOTAL * number // (faults + 1))
            history.fault("to no lease")
            await fault()
            slowest = max(slowest, await _accept(task, history, f"extra-{number}"))
        await until_all_ended(database, TOTAL + faults)
        put_back = await _put_back(database)
        verdict = await judge(
            app,
            history,
            figure,
            f"accepted at once after a fault {faults}/{faults}, the slowest in {slowest:.2f} s, put back by the reconciler {put_back}",
        )
        assert not verdict.duplicated
        assert put_back == 0, "the queue itself lost a job"
        return [one.stderr, two.stderr]


async def test_f13_recorded_jobs_outlive_killed_connections(
    server_factory: ServerFactory, settings: dict[str, Any], history: History, figure: Figure
) -> None:
    """F13: every connection of workers and producer is killed, 12 times; each job is accepted, recorded once and run
    once.
    """
    server = server_factory()
    settings["url"] = server.url
    async with open_store(server) as store:

        async def are_connected() -> bool:
            return len(await store.client_list(_type="normal")) > 3  # this one, the producer, and two workers

        async def kill() -> None:
            # Those that were just cut off come back first: a kill that meets nobody proves nothing.
            await eventually(are_connected, 20, "a process had no connection")
            killed = await store.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            assert killed >= 3, "a process had no connection"

        await _under_load(settings, history, figure, kill, faults=12)


async def test_f22_recorded_jobs_outlive_flushed_scripts(
    redis_url: str, settings: dict[str, Any], raw: RawStore, history: History, figure: Figure
) -> None:
    """F22: the scripts are sent again, 20 times; workers and producer notice nothing, and no line of an error is
    written.
    """
    settings["url"] = redis_url
    said = await _under_load(settings, history, figure, raw.script_flush, faults=20)
    assert said == ["", ""]


async def test_f14_recorded_jobs_outlive_a_stop_of_the_server(
    server_factory: ServerFactory, settings: dict[str, Any], history: History, figure: Figure
) -> None:
    """F14, its 30 s scaled to 3.5, which is more than a lease, P2: producers are answered as ever, workers resume
    without a restart, and what was accepted meanwhile runs too.
    """
    outage, server = 3.5, server_factory(appendonly="yes")
    settings["url"] = server.url
    app, task, _ = make_application(settings)
    async with app, job_process(settings, history, "w1") as one, job_process(settings, history, "w2") as two:
        database = backend_of(app).database
        await enqueue_all(task, history, [f"j{number}" for number in range(TOTAL)])
        await until_all_ended(database, TOTAL // 2)
        hits_all_leases(history, "outage beyond the lease", "w1", "w2")
        server.stop()
        cpu, went = cpu_seconds(one, two), time.monotonic()
        accepted, slowest = 0, 0.0
        while time.monotonic() - went < outage:
            slowest = max(slowest, await _accept(task, history, f"down-{accepted}"))
            accepted += 1
            await asyncio.sleep(0.1)  # the pace of a producer, not a wait
        cpu = cpu_seconds(one, two) - cpu
        server.start()
        came = time.monotonic()
        await until_all_ended(database, TOTAL + accepted)
        recover = min(event.at for event in history.events() if event.kind == "start" and event.at > came) - came
        put_back = await _put_back(database)
        await judge(
            app,
            history,
            figure,
            f"accepted while the server was down {accepted}/{accepted}, the slowest in {slowest:.2f} s, recover_s {recover:.2f} after it was back, "
            f"workers used {100 * cpu / outage / 2:.1f} % CPU each meanwhile, put back by the reconciler {put_back}",
        )
    assert accepted > 10, "an enqueue took long"
    assert put_back == 0, "a job was taken for handed over"
