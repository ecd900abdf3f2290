"""BullMQ's workers and ours on one queue, killed in turn: nothing is lost, and nothing runs twice that no kill
explains.

F28, BMQ wire checklist: shared load, and the recovery of orphans in both directions.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from faults.workers import WorkerProcess, add_jobs, ended_jobs, states, until_ended
from interop.bullmq import Bullmq
from interop.conftest import StartWorker
from support.eventually import eventually
from support.history import History, check
from support.store import RawStore
from taurine.queue import Queue

LEASE = 3.0
SWEEP = 1.0
NODE_OPTIONS: dict[str, Any] = {"concurrency": 10, "lockDuration": 3000, "stalledInterval": 1000, "maxStalledCount": 20}
OUR_OPTIONS: dict[str, Any] = {"concurrency": 10, "lease": LEASE, "stalled_interval": SWEEP, "max_stalled": 20}


class Crew(AsyncExitStack):
    """Workers of both kinds, each killed by SIGKILL and replaced by one with a new name."""

    def __init__(self, url: str, prefix: str, history: History) -> None:
        super().__init__()
        self._url, self._prefix, self._history = url, prefix, history
        self._numbers = itertools.count(1)
        self._node: list[tuple[str, Bullmq]] = []
        self._ours: list[WorkerProcess] = []

    async def hire(self) -> None:
        for _ in range(2):
            await self.hire_node()
            await self.hire_ours()

    async def hire_node(self) -> None:
        name = f"node-{next(self._numbers)}"
        node = await self.enter_async_context(Bullmq(self._url, self._prefix))
        await node.worker("q", name, history=self._history.directory, **NODE_OPTIONS)
        self._node.append((name, node))

    async def hire_ours(self) -> None:
        name = f"ours-{next(self._numbers)}"
        ours = WorkerProcess(self._url, self._prefix, self._history, name=name, **OUR_OPTIONS)
        self._ours.append(await self.enter_async_context(ours))

    async def replace_node(self) -> None:
        name, node = self._node.pop(0)
        node.freeze()
        self._history.fault("kill", worker=name)
        node.kill()
        await self.hire_node()

    async def replace_ours(self) -> None:
        await self._ours.pop(0).kill()
        await self.hire_ours()


async def test_both_kinds_of_workers_share_a_queue_while_they_are_killed(
    *, redis_url: str, prefix: str, queue: Queue, raw: RawStore, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    total, kills, base = 6000, 6, f"{prefix}:q:"
    history = History(tmp_path)
    await add_jobs(queue, history, total, {"ms": 20, "failures": 0})

    async with Crew(redis_url, prefix, history) as crew:
        await crew.hire()
        for kill in range(1, kills + 1):

            async def far_enough(share: float = kill / (kills + 1)) -> bool:
                return await ended_jobs(raw, base) >= total * share

            await eventually(far_enough, 30, f"the crew stopped before kill {kill}")
            await (crew.replace_node() if kill % 2 else crew.replace_ours())
        await until_ended(raw, base, total)

    shown = await states(raw, base)
    assert set(shown.values()) == {"completed"}
    verdict = check(history, states=shown)
    figure(verdict.summary())
    verdict.require()
    by_kind = {event.worker.partition("-")[0] for event in history.events() if event.kind == "finish"}
    assert by_kind == {"node", "ours"}, "one kind did all the work"
    assert not await raw.keys(f"{base}*:lock")
    assert await raw.scard(f"{base}stalled") == 0 or not await raw.llen(f"{base}active")


@pytest.fixture
async def second_node(redis_url: str, prefix: str) -> AsyncIterator[Bullmq]:
    async with Bullmq(redis_url, prefix) as node:
        yield node


async def test_we_recover_the_orphans_of_a_killed_node_worker(
    node: Bullmq, second_node: Bullmq, worker: StartWorker, raw: RawStore, prefix: str
) -> None:
    await second_node.listen("q")
    # All sweeps of a queue share one mutex, which the killed worker's would else hold for its 30 s.
    await node.worker("q", concurrency=3, lockDuration=300, stalledInterval=300)
    for number in range(3):
        await node.add("q", "hold", {"hold": True}, jobId=f"j{number}")
        await node.until_state("q", f"j{number}", "active")
        await raw.hset(f"{prefix}:q:j{number}", "data", '{"result": 5}')
    node.kill()

    async with worker(stalled_interval=0.3):
        for number in range(3):
            await second_node.until_state("q", f"j{number}", "completed")

    fields = [await raw.hmget(f"{prefix}:q:j{number}", "stc", "ats", "atm", "defa") for number in range(3)]
    assert fields == [["1", "2", "1", None]] * 3
    assert sorted(await second_node.seen("q", "stalled", "jobId")) == ["j0", "j1", "j2"]


async def test_node_recovers_the_orphans_of_our_killed_worker(
    *, node: Bullmq, redis_url: str, prefix: str, queue: Queue, raw: RawStore, tmp_path: Path
) -> None:
    await queue.add_many([("hold", {"hold": True}, {"job_id": f"j{number}"}) for number in range(3)])
    async with WorkerProcess(redis_url, prefix, History(tmp_path), name="ours", lease=0.3, stalled_interval=0) as ours:
        for number in range(3):
            await node.until_state("q", f"j{number}", "active")
            await raw.hset(f"{prefix}:q:j{number}", "data", '{"result": 5}')
        await ours.kill()

        await node.worker("q", stalledInterval=300)
        for number in range(3):
            await node.until_state("q", f"j{number}", "completed")

    fields = [await raw.hmget(f"{prefix}:q:j{number}", "stc", "ats", "atm", "defa") for number in range(3)]
    assert fields == [["1", "2", "1", None]] * 3


async def test_a_job_that_node_has_marked_to_fail_is_failed_by_us_without_running(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str
) -> None:
    """`defa` travels: written by the sweep of one engine, heeded by the claim of the other."""
    await _orphan(queue, worker, raw, prefix)
    await node.queue("q", "pause")
    await node.worker("q", "sweep", stalledInterval=200, maxStalledCount=0)

    await eventually(lambda: raw.hget(f"{prefix}:q:j", "defa"), 10, "Node's sweep did not mark the job")
    await node.stop_worker("sweep")
    await node.queue("q", "resume")
    async with worker():
        await node.until_state("q", "j", "failed")

    await _has_failed_unrun(raw, prefix)


async def test_a_job_that_we_have_marked_to_fail_is_failed_by_node_without_running(
    node: Bullmq, worker: StartWorker, queue: Queue, raw: RawStore, prefix: str
) -> None:
    await _orphan(queue, worker, raw, prefix)
    sweeping = worker(stalled_interval=0.05, max_stalled=0)

    async def marked() -> str | None:
        await sweeping.recover_stalled()
        return await raw.hget(f"{prefix}:q:j", "defa")

    await eventually(marked, 10, "our sweep did not mark the job", every=0.06)
    await sweeping.stop()
    await node.worker("q")
    await node.until_state("q", "j", "failed")

    await _has_failed_unrun(raw, prefix)


async def _orphan(queue: Queue, worker: StartWorker, raw: RawStore, prefix: str) -> None:
    """A job `j` that is active and under no lease, as a killed worker leaves it."""
    await queue.add("ran twice", {"result": "it ran"}, job_id="j")
    dead = worker()
    assert await dead.fetch() is not None
    await dead.stop()
    await raw.delete(f"{prefix}:q:j:lock")


async def _has_failed_unrun(raw: RawStore, prefix: str) -> None:
    fields = await raw.hgetall(f"{prefix}:q:j")
    assert fields["failedReason"] == "job stalled more than allowable limit"
    assert (fields["stc"], fields["ats"], fields["atm"]) == ("1", "2", "1")
    assert "defa" not in fields
    assert "returnvalue" not in fields
