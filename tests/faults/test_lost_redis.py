"""F17, F19, F25: the server of queues loses what it was told, all of it or the newest part; the ledger puts it back
(P1, P3).

Scaled for two busy cores: 800 jobs of 10 ms (500 where the ledger is on PostgreSQL) on 2 workers x 10, which keep few
ended jobs in the queue. A reconciler runs in each worker, every 0.5 s.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from faults.job_process import make_application
from faults.jobs import (
    JobProcess,
    backend_of,
    enqueue_all,
    generations,
    job_process,
    judge,
    open_ids,
    statuses,
    until_all_ended,
    with_its_leases,
)
from support.eventually import eventually
from support.history import History
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.store import open_store

Figure = Callable[[str], None]
ServerFactory = Callable[..., ValkeyServer]

SLOWER = 150.0
"""Milliseconds of the jobs that will be lost: most of them must still wait when the fault comes."""

_STAND_STILL = ("CLIENT", "PAUSE", 60_000, "ALL")
"""From here to its kill the server grants no lease and settles no job."""


@pytest.fixture
def settings(tmp_path: Path, prefix: str, ledger: str) -> dict[str, Any]:
    """What the processes and the test have in common, but for the server."""
    return {
        "prefix": prefix,
        "home": str(tmp_path),
        "database_url": ledger,
        "concurrency": 10,
        "lease": 2.0,
    }


def _workers(settings: dict[str, Any], history: History) -> list[JobProcess]:
    return [job_process(settings, history, name) for name in ("w1", "w2")]


@contextlib.contextmanager
def _frozen(workers: list[JobProcess]) -> Generator[None]:
    """They sleep while the test looks at what was lost: their reconcilers might else have put all of it back by then."""
    for worker in workers:
        worker.freeze()
    yield
    for worker in workers:
        worker.thaw()


def _total(settings: dict[str, Any]) -> int:
    return 800 if settings["database_url"].startswith("sqlite") else 500


async def test_f19_everything_is_flushed_mid_run(
    *,
    ledger_url: str,
    server_factory: ServerFactory,
    settings: dict[str, Any],
    prefix: str,
    history: History,
    figure: Figure,
) -> None:
    """F19: FLUSHALL twice under load; the queue is rebuilt from the ledger, and the workers go on without a restart."""
    total = _total(settings)
    server = server_factory()
    settings["url"] = server.url
    app, task, _ = make_application(settings)
    async with open_store(server) as store, app:
        database, one_two = backend_of(app).database, _workers(settings, history)
        names = [f"j{number}" for number in range(total)]
        rebuild: list[float] = []
        hit: Counter[str] = Counter()
        lost: set[str] = set()
        async with one_two[0], one_two[1]:
            await enqueue_all(task, history, names)
            for share in (0.25, 0.5):
                await until_all_ended(database, round(total * share))
                history.fault("flush")
                hit += await with_its_leases(store, prefix, "FLUSHALL")
                flushed = time.monotonic()
                lost |= await open_ids(database)

                async def rebuilt() -> bool:
                    found = await app.compare()
                    assert found.gone + found.waiting == 0, str(found)
                    return True

                await eventually(rebuilt, 30, "the queue was not rebuilt", every=0.1)
                rebuild.append(time.monotonic() - flushed)
            await until_all_ended(database, total)
            raised = sum(generation > 0 for generation in (await generations(database)).values())
            shown = await statuses(database)
            ended = sum(shown[name] == "completed" for name in lost)
            await judge(
                app,
                history,
                figure,
                f"redis_lost {len(lost)}, rebuilt {ended}/{len(lost)} ({raised} as a new generation; the rest ran on, or was not handed over yet), "
                f"rebuild_s {', '.join(f'{seconds:.2f}' for seconds in rebuild)}",
                faults=hit,
            )
    assert raised > total // 4, "the flush hit nothing"
    await app.close()


async def test_f17_a_failover_loses_the_newest_writes(
    *,
    ledger_url: str,
    server_factory: ServerFactory,
    settings: dict[str, Any],
    prefix: str,
    history: History,
    figure: Figure,
) -> None:
    """F17: the replica that takes over has not heard of the last jobs, nor of the last ends: the ones run, the others
    do not run again.
    """
    total = _total(settings)
    primary, replica = server_factory(), server_factory()
    async with FaultProxy(primary.port) as proxy, open_store(primary) as first, open_store(replica) as second:
        settings["url"] = proxy.url
        await second.replicaof("127.0.0.1", primary.port)

        async def in_step() -> bool:
            return (await second.info("replication"))["master_link_status"] == "up"

        await eventually(in_step, 20)
        app, task, _ = make_application(settings)
        async with app:
            database, one_two = backend_of(app).database, _workers(settings, history)
            names = [f"j{number}" for number in range(total)]
            async with one_two[0], one_two[1]:
                await enqueue_all(task, history, names[: total // 2])
                await until_all_ended(database, total // 4)
                await first.wait(1, 5000)
                heard = await open_ids(database)
                await second.replicaof("NO", "ONE")  # from here on nothing reaches it
                await enqueue_all(task, history, names[total // 2 :], SLOWER)
                await until_all_ended(
                    database, total // 2 + 1
                )  # one of those that will be lost, so they have been handed over
                forgotten = len(heard - await open_ids(database))
                history.fault("failover")
                hit = await with_its_leases(first, prefix, *_STAND_STILL)
                with _frozen(one_two):
                    proxy.redirect(replica.port)
                    primary.kill()
                    proxy.reset()
                    failed_over, still_open = time.monotonic(), await open_ids(database)
                    found = await app.compare()
                await until_all_ended(database, total)
                seconds = time.monotonic() - failed_over
                shown = await statuses(database)
                ended = sum(shown[name] == "completed" for name in still_open)
                figures = (
                    f"redis_lost {found.gone} jobs and {forgotten} ends, rebuilt {ended}/{len(still_open)} open ones, "
                    f"reconciled and drained in {seconds:.2f} s"
                )
                await judge(app, history, figure, figures, faults=hit)
        assert found.gone > 0, "nothing was lost"
        await app.close()


async def test_f25_the_log_ends_at_the_last_fsync(
    *,
    ledger_url: str,
    server_factory: ServerFactory,
    settings: dict[str, Any],
    prefix: str,
    history: History,
    figure: Figure,
) -> None:
    """F25: the append-only file is cut where it ended half a second before the server died."""
    total = _total(settings)
    server = server_factory(appendonly="yes", appendfsync="everysec", aof_load_truncated="yes")
    settings["url"] = server.url
    app, task, _ = make_application(settings)
    async with app:
        database, one_two = backend_of(app).database, _workers(settings, history)
        names = [f"j{number}" for number in range(total)]
        async with one_two[0], one_two[1]:
            await enqueue_all(task, history, names[: total // 2])
            await until_all_ended(database, total // 4)
            [log] = (server.directory / "appendonlydir").glob("*.incr.aof")
            synced, before = log.stat().st_size, await open_ids(database)
            await enqueue_all(task, history, names[total // 2 :], SLOWER)
            await until_all_ended(
                database, total // 2 + 1
            )  # one of those that will be lost, so they have been handed over
            forgotten = len(before - await open_ids(database))
            history.fault("power cut")
            async with open_store(server) as store:
                hit = await with_its_leases(store, prefix, *_STAND_STILL)
                server.kill()
            cut = log.stat().st_size - synced
            with log.open("r+b") as file:
                file.truncate(synced)
            with _frozen(one_two):
                server.start()
                came, still_open = time.monotonic(), await open_ids(database)
                found = await app.compare()
            await until_all_ended(database, total)
            seconds = time.monotonic() - came
            shown = await statuses(database)
            ended = sum(shown[name] == "completed" for name in still_open)
            figures = (
                f"{cut} bytes cut, redis_lost {found.gone} jobs and {forgotten} ends, rebuilt {ended}/{len(still_open)} open ones, "
                f"reconciled and drained in {seconds:.2f} s"
            )
            await judge(app, history, figure, figures, faults=hit)
    assert found.gone > 0, "nothing was lost"
    await app.close()
