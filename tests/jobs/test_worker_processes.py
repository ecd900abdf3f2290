"""`Taurine.worker(processes=N)`: real programs with real worker processes, from their start to their end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest
from redis.asyncio import Redis

from support.errand_process import ErrandProcess
from support.errands import Errand, declare_errands, enqueue_errands
from support.eventually import eventually
from support.executing import is_alive
from support.history import History
from support.server import ValkeyServer
from taurine.app import Taurine
from taurine.errors import InvalidOption, SupervisorGaveUp
from taurine.jobs.catalog.job_type import JobType
from taurine.observe.health_port import ProcessesHealth


@pytest.fixture
def settings(redis_url: str, sqlite_url: str, prefix: str) -> dict[str, str]:
    return {"TAURINE_REDIS_URL": redis_url, "TAURINE_DATABASE_URL": sqlite_url, "TAURINE_PREFIX": prefix}


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


@pytest.fixture
def errands(app: Taurine) -> JobType[Errand, str]:
    return declare_errands(app)


@pytest.fixture
async def parent(settings: dict[str, str], history: History) -> AsyncIterator[ErrandProcess]:
    """A program with two worker processes that are ready."""
    async with ErrandProcess(
        settings, history, name="", processes=2, concurrency=3, lease=1.0, stalled_interval=0.5, max_crashes=20
    ) as parent:
        await parent.ready(2)
        yield parent
        pids = children(parent)
    await eventually(lambda: not any(map(is_alive, pids)), 20, "a worker process outlived its parent")


@pytest.fixture
def importable(
    app_factory: Callable[..., Taurine], settings: dict[str, str], history: History, monkeypatch: pytest.MonkeyPatch
) -> Taurine:
    """An application of errands that processes made by this one can import."""
    for name, value in {**settings, "ERRANDS_HISTORY": str(history.directory)}.items():
        monkeypatch.setenv(name, value)
    app = app_factory(import_path="support.errand_worker:app")
    declare_errands(app, history)
    return app


def children(parent: ErrandProcess) -> list[int]:
    """The worker processes, as the parent's log has them."""
    return [int(line.rpartition(" ")[2]) for line in parent.said.splitlines() if "runs as pid" in line]


def command_line(pid: int) -> str:
    """What a list of processes shows of it."""
    return Path(f"/proc/{pid}/cmdline").read_text()


async def completed(app: Taurine) -> int:
    counts = await app.counts(queue="errands")
    return counts["completed"].number if "completed" in counts else 0


async def until_completed(app: Taurine, total: int) -> None:
    async def all_of_them() -> bool:
        done = await completed(app)
        assert done >= total, f"{done} of {total}"
        return True

    await eventually(all_of_them, 60, every=0.05)


async def test_the_processes_share_the_work(
    parent: ErrandProcess, app: Taurine, errands: JobType[Errand, str], history: History
) -> None:
    """SEED-061, SEED-103: each with its own slots; one SIGTERM to the parent ends all in good order, with exit code 0."""
    await enqueue_errands(errands, history, [f"e{number}" for number in range(60)], seconds=0.1)
    await until_completed(app, 60)
    workers = {event.worker for event in history.events() if event.kind == "start"}
    assert workers == {f"p{pid}" for pid in children(parent)}
    assert len(workers) == 2

    await enqueue_errands(errands, history, [f"f{number}" for number in range(6)], seconds=1.0)
    await eventually(lambda: sum(e.kind == "start" for e in history.events()) == 66 or None, 30)
    parent.signal(signal.SIGTERM)
    assert await parent.ended() == 0
    assert await completed(app) == 66, "what ran was let end"
    assert parent.said.count("has ended") == 2


async def test_a_process_that_is_killed_is_replaced(
    parent: ErrandProcess, app: Taurine, errands: JobType[Errand, str], history: History
) -> None:
    await enqueue_errands(errands, history, [f"e{number}" for number in range(60)], seconds=0.1)
    await eventually(lambda: len(history.effects()) > 10 or None, 30)
    os.kill(children(parent)[0], signal.SIGKILL)
    await until_completed(app, 60)
    await parent.ready(3)
    assert "ended by itself with signal 9 (SIGKILL)" in parent.said
    parent.signal(signal.SIGINT)
    assert await parent.ended() == 0


async def test_a_second_signal_ends_the_grace(
    parent: ErrandProcess, app: Taurine, errands: JobType[Errand, str], history: History
) -> None:
    """F09: the jobs are handed back at once, and no attempt is charged."""
    await enqueue_errands(errands, history, [f"e{number}" for number in range(6)], seconds=600.0)
    await eventually(lambda: len(history.effects()) == 6 or None, 30)
    parent.signal(signal.SIGTERM)
    await eventually(lambda: parent.said.count("jobs run, they have 30 s") == 2 or None, 20)
    parent.signal(signal.SIGTERM)
    assert await parent.ended() == 0
    for number in range(6):
        record = await app.get(f"e{number}")
        assert record is not None
        assert (record.status, record.attempts) == ("queued", 0)


async def test_the_processes_end_with_their_parent(parent: ErrandProcess) -> None:
    """A parent that is killed can tell nobody; its processes notice, and end in good order."""
    pids = children(parent)
    parent.signal(signal.SIGKILL)
    await parent.process.wait()
    await eventually(lambda: not any(map(is_alive, pids)), 30, "they live on")
    assert parent.said.count("has ended") == 2


async def test_from_within_a_program(
    importable: Taurine, history: History, server_factory: Callable[..., ValkeyServer]
) -> None:
    """As a context manager, without signals; with a name, told apart by number; and a password that no list of
    processes shows.
    """
    app, errands = importable, importable.catalog.get("errand.run")
    before = signal.getsignal(signal.SIGTERM)
    await enqueue_errands(errands, history, ["e1"])
    server = server_factory()
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser(
            "clerk", enabled=True, passwords=["+very-secret"], keys=["*"], channels=["*"], categories=["+@all"]
        )
    url = server.url.replace("redis://", "redis://clerk:very-secret@")
    async with app.worker(processes=1, name="till", redis_url=url) as worker:
        assert list(worker.pids) == [1], "the block begins when it is ready"
        command = command_line(worker.pids[1])
        assert "taurine.jobs.worker.supervised" in command
        assert "very-secret" not in command
        assert signal.getsignal(signal.SIGTERM) is before
    assert worker.pids == {}

    worker = app.worker(processes=1, name="till")
    run = asyncio.create_task(worker.run())
    await until_completed(app, 1)
    record = await app.get("e1")
    await asyncio.wait_for(worker.stop(grace=0), 30)
    await asyncio.wait_for(run, 5)
    assert record is not None
    assert (await app.attempts("e1"))[-1].worker == "till-1"
    assert worker.restarts == 0


async def test_a_start_that_failed_is_raised_before_the_block(
    app_factory: Callable[..., Taurine], history: History
) -> None:
    """All processes die at once: the import of the application's module raises there."""
    app = app_factory(import_path="support.broken_import:app")
    declare_errands(app, history)
    worker = app.worker(processes=3)
    began = False
    with pytest.raises(
        SupervisorGaveUp, match=r"in a row ended .* exit code 1; .* `python -c 'import support.broken_import'`"
    ) as raised:
        async with asyncio.timeout(60), worker:
            began = True
    assert not began
    assert raised.value.exit_code == 1
    assert worker.pids == {}


async def test_a_server_that_is_down_is_waited_for_within_the_block(
    importable: Taurine, server_factory: Callable[..., ValkeyServer]
) -> None:
    """The process is not ready, and it has not failed either."""
    server = server_factory()
    server.stop()
    async with asyncio.timeout(60), importable.worker(processes=1, redis_url=server.url) as worker:
        assert list(worker.pids) == [1]
        assert worker.restarts == 0


async def test_a_start_that_is_cancelled_leaves_no_process(importable: Taurine) -> None:
    worker = importable.worker(processes=1)
    entering = asyncio.create_task(worker.__aenter__())
    (pid,) = await eventually(lambda: tuple(worker.pids.values()), 30)
    entering.cancel()
    await asyncio.wait({entering}, timeout=30)
    assert entering.cancelled()
    assert not is_alive(pid)


async def test_it_is_entered_once(importable: Taurine) -> None:
    async with asyncio.timeout(60), importable.worker(processes=1) as worker:
        with pytest.raises(InvalidOption, match="run already"):
            await worker.__aenter__()
        assert list(worker.pids) == [1], "the first block goes on"


async def test_deps_cannot_reach_other_processes(app: Taurine) -> None:
    @app.job("parcel.pack")
    async def pack(number: int) -> None:
        pass

    with pytest.raises(InvalidOption, match=r"expected deps in Taurine\(…, deps=…\)"):
        app.worker(processes=2, deps=object())


async def test_nothing_to_work_on_is_said_by_the_parent(app: Taurine, errands: JobType[Errand, str]) -> None:
    with pytest.raises(InvalidOption, match="no job type of the catalog has a handler"):
        app.worker(processes=2)


async def test_the_parent_answers_for_all_of_them(importable: Taurine) -> None:
    """F60: one that is frozen makes them unhealthy, and its death does not, since another takes its place."""
    async with importable, importable.worker(processes=2, health_port=0) as workers:
        health = workers._health
        assert isinstance(health, ProcessesHealth)

        async def status(path: str) -> int:
            answer = await asyncio.to_thread(httpx2.get, f"http://127.0.0.1:{health.port}{path}", timeout=20)
            return answer.status_code

        assert await status("/health/live") == 200
        assert await status("/health/ready") == 200
        assert 'taurine_up{store="ledger"} 1.0' in await asyncio.to_thread(
            lambda: httpx2.get(f"http://127.0.0.1:{health.port}/metrics", timeout=20).text
        )
        frozen = workers.pids[1]
        os.kill(frozen, signal.SIGSTOP)
        assert await status("/health/live") == 503
        os.kill(frozen, signal.SIGCONT)
        assert await status("/health/live") == 200
        folder = Path(health.folder)
        assert _mode(folder) == 0o700
    assert _mode(folder) is None


def _mode(folder: Path) -> int | None:
    """Who may enter it; None where it is gone."""
    return folder.stat().st_mode & 0o777 if folder.exists() else None
