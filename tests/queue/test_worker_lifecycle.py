"""The life of a worker: starting, slots, pausing, stopping, and what becomes of jobs that run when it stops."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from support.eventually import eventually
from support.proxy import FaultProxy
from support.server import ValkeyServer
from support.site import Site
from taurine.errors import InvalidOption, StoreRefused
from taurine.queue.job import Job
from taurine.queue.worker import Worker


class Held:
    """A handler whose jobs run until they are let go."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.started: list[str] = []
        self.cancelled: list[str | None] = []
        self.gate = asyncio.Event()

    async def __call__(self, job: Job) -> str:
        self.started.append(job.id)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(job.cancel_reason)
            raise
        finally:
            self.running -= 1
        return "done"


async def work(_: Job) -> str:
    return "done"


async def add_many(site: Site, count: int) -> None:
    await site.queue.add_many([("work", {"i": i}) for i in range(count)])


# Slots ------------------------------------------------------------------------------------------------------------------------


async def test_concurrency_is_changed_while_it_runs_bmq_080(site: Site) -> None:
    handler = Held()
    await add_many(site, 20)
    async with site.working(handler, concurrency=3) as worker:
        await eventually(lambda: handler.running == 3)
        await site.until(active=3, wait=17)

        worker.concurrency = 6
        await eventually(lambda: handler.running == 6)
        await site.until(active=6, wait=14)

        worker.concurrency = 1
        handler.gate.set()
        await site.until(completed=20)

    assert handler.most == 6


@pytest.mark.parametrize("value", [0, -1, 2.5, float("inf"), float("nan"), True, "5", None])
def test_a_concurrency_that_makes_no_sense_is_refused_bmq_080(site: Site, value: Any) -> None:
    with pytest.raises(InvalidOption, match="concurrency"):
        site.worker(work, concurrency=value)
    worker = site.worker(work)
    with pytest.raises(InvalidOption, match="concurrency"):
        worker.concurrency = value
    assert worker.concurrency == 5


@pytest.mark.parametrize("concurrency", [1, 2, 7])
async def test_no_job_is_held_that_does_not_run(site: Site, concurrency: int) -> None:
    """No prefetch: what is active on the server never exceeds the slots, so other workers get the rest."""
    most_active = 0

    async def handler(job: Job) -> None:
        nonlocal most_active
        most_active = max(most_active, await site.raw.llen(site.keys.active))

    await add_many(site, 200)
    async with site.working(handler, concurrency=concurrency):
        await site.until(completed=200)

    assert 1 <= most_active <= concurrency


async def test_a_slow_job_does_not_hold_up_the_others(site: Site) -> None:
    gate = asyncio.Event()

    async def handler(job: Job) -> None:
        if job.name == "slow":
            await gate.wait()

    await site.queue.add("slow")
    await add_many(site, 50)
    async with site.working(handler, concurrency=2):
        await site.until(active=1, completed=50)
        gate.set()
        await site.until(completed=51)


# Starting ---------------------------------------------------------------------------------------------------------------------


async def test_nothing_happens_before_run_bmq_081(site: Site) -> None:
    await add_many(site, 3)
    worker = site.worker(work)
    await site.until(wait=3)
    assert [client["name"] for client in await site.raw.client_list() if client["name"]] == []

    running = asyncio.create_task(worker.run())
    await site.until(completed=3)
    await worker.stop()
    await running


async def test_it_cannot_run_twice_at_once_bmq_081(site: Site) -> None:
    async with site.working(work) as worker:
        await site.queue.add("work")
        await site.until(completed=1)
        with pytest.raises(InvalidOption, match="runs already"):
            await worker.run()


async def test_it_cannot_run_without_a_handler_bmq_081(site: Site) -> None:
    with pytest.raises(InvalidOption, match="no handler"):
        await site.worker(None).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"handler": "text"}, "async function of a job"),
        ({"name": "two words"}, "without spaces"),
        ({"lease": 0}, "lease"),
        ({"lease": float("nan")}, "lease"),
        ({"drain_delay": -1}, "drain_delay"),
        ({"stalled_interval": -1}, "stalled_interval"),
    ],
)
def test_settings_out_of_range_are_refused(site: Site, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        site.worker(options.pop("handler", work), **options)


async def test_a_handler_gets_job_token_and_cancellation_bmq_082(site: Site) -> None:
    seen: dict[str, Any] = {}

    async def handler(job: Job) -> None:
        lock = await site.raw.get(site.keys.lock(job.stored_id))
        seen.update(data=job.data, lock=lock, token=job.token, cancelled=job.cancelled)

    await site.queue.add("work", {"to": "someone"})
    async with site.working(handler):
        await site.until(completed=1)

    assert seen["data"] == {"to": "someone"}
    assert seen["token"]
    assert seen["lock"] == seen["token"]
    assert seen["cancelled"] is False


async def test_each_claim_has_a_token_that_no_other_shares_bmq_082(site: Site) -> None:
    tokens: list[str | None] = []

    async def handler(job: Job) -> None:
        tokens.append(job.token)
        if job.attempts_made == 0:
            raise RuntimeError("again")

    await site.queue.add("work", attempts=2)
    async with site.working(handler):
        await site.until(completed=1)

    assert len(set(tokens)) == 2


async def test_a_named_worker_signs_its_jobs_bmq_083(site: Site) -> None:
    await site.queue.add("work")
    async with site.working(work, name="mailer-1") as worker:
        await site.until(completed=1)
        assert worker.name == "mailer-1"
    assert (await site.hash("1"))["pb"] == "mailer-1"

    await site.queue.add("work")
    async with site.working(work):
        await site.until(completed=2)
    assert "pb" not in await site.hash("2")


# Pausing ----------------------------------------------------------------------------------------------------------------------


async def test_a_paused_worker_lets_its_jobs_end_and_starts_none_bmq_090(site: Site) -> None:
    handler = Held()
    await add_many(site, 5)
    async with site.working(handler, concurrency=2) as worker:
        await eventually(lambda: handler.running == 2)
        pausing = asyncio.create_task(worker.pause())
        await eventually(lambda: worker.is_paused)
        assert not pausing.done(), "it waits for running jobs"

        handler.gate.set()
        await pausing
        await site.until(completed=2, wait=3)
        await site.queue.add("late")
        await site.until(completed=2, wait=4)
        assert len(handler.started) == 2

        worker.resume()
        await site.until(completed=6)


async def test_pausing_need_not_wait_bmq_090(site: Site) -> None:
    handler = Held()
    await add_many(site, 3)
    async with site.working(handler, concurrency=1) as worker:
        await eventually(lambda: handler.running == 1)
        await worker.pause(wait=False)
        assert handler.running == 1
        handler.gate.set()
        await site.until(completed=1, wait=2)
        worker.resume()
        await site.until(completed=3)


async def test_a_paused_worker_leaves_new_jobs_to_others_bmq_090(site: Site) -> None:
    taken: list[str] = []

    async def other(job: Job) -> None:
        taken.append(job.id)

    async with site.working(Held(), drain_delay=60) as paused, site.working(other, drain_delay=60):
        await paused.pause()
        for _ in range(10):
            await site.queue.add("work")
        await site.until(completed=10)

    assert len(taken) == 10


# Stopping ---------------------------------------------------------------------------------------------------------------------


async def test_stopping_waits_for_running_jobs_and_claims_none_bmq_091(site: Site) -> None:
    handler = Held()
    await add_many(site, 5)
    async with site.working(handler, concurrency=2) as worker:
        await eventually(lambda: handler.running == 2)
        stopping = asyncio.create_task(worker.stop())
        await site.queue.add("late")
        await site.until(active=2, wait=4)
        assert not stopping.done()
        handler.gate.set()
        await stopping

    await site.until(completed=2, wait=4)
    assert handler.cancelled == []


async def test_what_does_not_end_in_the_grace_time_goes_back_to_the_front_uncharged_bmq_091(site: Site) -> None:
    """Stopped by force, it hands back its jobs: in front of all others, no attempt charged, no lease left."""
    handler = Held()
    await add_many(site, 5)
    async with site.working(handler, concurrency=3) as worker:
        await eventually(lambda: handler.running == 3)
        await worker.stop(grace=0)

    await site.until(wait=5)
    assert set((await site.line())[:3]) == {"1", "2", "3"}
    assert (await site.line())[3:] == ["4", "5"]
    assert handler.cancelled == ["the worker stops; the job is handed back"] * 3
    assert await site.raw.keys(site.keys.job("*:lock")) == []
    assert "atm" not in await site.hash("1")

    async with site.working(work):
        await site.until(completed=5)
    stored = await site.hash("1")
    assert (stored["ats"], stored["atm"]) == ("2", "1")
    assert "failedReason" not in stored


async def test_a_job_with_a_priority_goes_back_to_the_front_of_its_own_bmq_091(site: Site) -> None:
    handler = Held()
    for priority in (1, 2, 2):
        await site.queue.add("work", priority=priority)
    async with site.working(handler, concurrency=2) as worker:
        await eventually(lambda: handler.running == 2)
        await worker.stop(grace=0)

    assert await site.raw.zrange(site.keys.prioritized, 0, -1) == ["1", "2", "3"]


async def test_a_handler_that_swallows_the_cancellation_is_left_behind_bmq_091(site: Site) -> None:
    gate = asyncio.Event()
    left: list[asyncio.Task[Any] | None] = []

    async def stubborn(job: Job) -> str:
        left.append(asyncio.current_task())
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()
        return "too late"

    await site.queue.add("work")
    async with site.working(stubborn) as worker:
        await eventually(lambda: left)
        await worker.stop(grace=0)
    await site.until(wait=1)

    async with site.working(work):
        await site.until(completed=1)
    gate.set()
    await eventually(lambda: all(task is not None and task.done() for task in left))
    assert (await site.hash("1"))["returnvalue"] == '"done"', "the result of the run that holds the job"


async def test_a_handler_may_stop_its_worker_bmq_091(site: Site) -> None:
    async def handler(job: Job) -> str:
        await worker.stop()
        return "done"

    worker = site.worker(handler, site.url, concurrency=1)
    await add_many(site, 3)
    await worker.run()

    await site.until(completed=1, wait=2)


async def test_stopping_twice_or_before_the_start_is_harmless_bmq_055(site: Site) -> None:
    never = site.worker(work, site.url)
    await never.stop()
    await never.stop()

    await site.queue.add("work")
    async with site.working(work, site.url) as worker:
        await site.until(completed=1)
        await asyncio.gather(worker.stop(), worker.stop())
        await worker.stop()


async def test_closing_a_queue_twice_is_harmless_bmq_055(site: Site) -> None:
    """That no socket is left is counted after every test."""
    async with Worker("q", work, site.url, prefix=site.keys.prefix):
        await site.queue.add("work")
        await site.until(completed=1)
    await site.queue.close()
    await site.queue.close()
    await site.connection.close()
    await site.connection.close()


async def test_a_cancelled_run_hands_its_jobs_back(site: Site) -> None:
    handler = Held()
    await add_many(site, 4)
    worker = site.worker(handler, site.url, concurrency=2)
    running = asyncio.create_task(worker.run())
    await eventually(lambda: handler.running == 2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    await site.until(wait=4)
    assert set((await site.line())[:2]) == {"1", "2"}
    assert "atm" not in await site.hash("1")
    assert await site.raw.keys(site.keys.job("*:lock")) == []


async def test_a_run_that_is_cancelled_twice_leaves_nothing_running(site: Site) -> None:
    """The second time while it waits for a handler that takes its time."""
    started, gate = list[Job](), asyncio.Event()

    async def slow_to_go(job: Job) -> None:
        started.append(job)
        try:
            await asyncio.Event().wait()
        finally:
            await gate.wait()

    await site.queue.add("work")
    worker = site.worker(slow_to_go, site.url)
    closed: list[bool] = []
    worker.on("closed", lambda: closed.append(True))
    running = asyncio.create_task(worker.run())
    await eventually(lambda: started)
    running.cancel()
    await eventually(lambda: started[0].cancel_reason)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    left = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("taurine")]
    gate.set()
    assert left == []
    assert closed == [True]


@pytest.mark.parametrize("moment", range(0, 60, 6))
async def test_stopped_at_any_moment_it_loses_and_holds_nothing(site: Site, moment: int) -> None:
    """Jobs of a turn that was under way when the stop came are handed back, too."""
    ran: list[str] = []

    async def handler(job: Job) -> None:
        ran.append(job.id)
        await asyncio.sleep(0)

    await add_many(site, 400)
    async with site.working(handler, concurrency=8) as worker:
        await eventually(lambda: ran)
        for _ in range(moment):
            await asyncio.sleep(0)
        await worker.stop(grace=0)

    counts = await site.counts()
    assert "active" not in counts
    assert counts.get("completed", 0) + counts.get("wait", 0) == 400
    assert await site.raw.keys(site.keys.job("*:lock")) == []
    async with site.working(handler, concurrency=8):
        await site.until(completed=400)


async def test_jobs_that_arrive_after_the_stop_are_handed_back_unrun_bmq_091(site: Site, valkey: ValkeyServer) -> None:
    """They are claimed at the server, and the reply is still on its way."""
    handler = Held()

    async def waiting() -> bool:
        return any("b" in client["flags"] for client in await site.raw.client_list())

    async with FaultProxy(valkey.socket) as proxy, site.working(handler, proxy.url, concurrency=9) as worker:
        await eventually(waiting, message="the worker's blocking read")
        proxy.delay(replies=0.8)
        await site.queue.add_many([("work", {})] * 3)
        await site.until(active=3)
        await worker.stop(grace=0)

    await site.until(wait=3)
    assert handler.started == []
    assert await site.raw.keys(site.keys.job("*:lock")) == []


async def test_a_worker_that_is_refused_says_so(site: Site) -> None:
    wrong = site.url.replace("unix://", "unix://nobody:wrong@")
    with pytest.raises(StoreRefused, match="user and password"):
        await site.worker(work, wrong).run()
    with pytest.raises(StoreRefused, match="user and password"):
        async with site.worker(work, wrong):
            await asyncio.sleep(0)
