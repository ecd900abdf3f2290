"""F01, F06, F08, F09, F10 and rolling restarts, with whole applications: processes that are killed, poisoned and told
to end, over a ledger.

Scaled for two busy cores: leases of 2 s and looks each second, kills by progress rather than by the clock. The checker
judges by what the records say;
besides, every record must agree with its queue.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from random import Random
from typing import Any

import pytest

from faults.workers import states
from support.errand_process import ErrandProcess
from support.errands import Errand, declare_errands, enqueue_errands
from support.eventually import eventually
from support.history import History, Verdict, check
from support.store import RawStore
from taurine.app import Taurine
from taurine.jobs.catalog.job_type import JobType

Figure = Callable[[str], None]

OPTIONS: dict[str, Any] = {"concurrency": 10, "lease": 2.0, "stalled_interval": 1.0, "max_crashes": 50}


class Shop:
    """The application under test as its producer sees it, and what the worker processes must know of it."""

    def __init__(self, app: Taurine, settings: Mapping[str, str], history: History, raw: RawStore) -> None:
        self.app = app
        self.errands: JobType[Errand, str] = declare_errands(app)
        self.settings = dict(settings)
        self.history = history
        self._raw = raw
        self._base = f"{app.settings.prefix}:errands:"

    def worker(self, name: str, **options: Any) -> ErrandProcess:
        return ErrandProcess(self.settings, self.history, name=name, **{**OPTIONS, **options})

    async def enqueue(self, count: int, *, seconds: float = 0.0) -> list[str]:
        numbers = [f"e{number}" for number in range(count)]
        await enqueue_errands(self.errands, self.history, numbers, seconds=seconds)
        return numbers

    async def ended(self) -> int:
        counts = await self.app.counts(queue="errands")
        return sum(counts[status].number for status in ("completed", "failed") if status in counts)

    async def until_ended(self, total: int, *, within: float = 90.0) -> None:
        async def all_ended() -> bool:
            ended = await self.ended()
            assert ended >= total, f"{ended} of {total} have ended"
            return True

        await eventually(all_ended, within, "the queue was not drained", every=0.1)

    def started(self) -> Counter[str]:
        """How often each errand's handler was entered."""
        return Counter(event.job for event in self.history.events() if event.kind == "start")

    async def statuses(self, numbers: list[str]) -> dict[str, str]:
        """What the records say."""
        found: dict[str, str] = {}
        for number in numbers:
            record = await self.app.get(number)
            if record is not None:
                found[number] = record.status
        return found

    async def divergent(self, records: Mapping[str, str]) -> set[str]:
        """The errands whose record says something else than their queue."""
        words = {
            "completed": "completed",
            "failed": "failed",
            "queued": "wait",
            "retrying": "delayed",
            "running": "active",
        }
        queue = await states(self._raw, self._base)
        return {
            number
            for number in {*records, *queue}
            if words.get(records.get(number, ""), "?") != queue.get(number, "none")
        }

    async def verdict(self, numbers: list[str], figure: Figure, more: str = "") -> Verdict:
        """Judge, print the figures, and require that there is nothing wrong."""
        records = await self.statuses(numbers)
        with suppress(AssertionError):  # the record comes first, and the queue is told a moment later
            await eventually(lambda: self._agree(records), 10, every=0.1)
        divergent = await self.divergent(records)
        verdict = check(self.history, states=records, divergent=len(divergent))
        figure(f"{verdict.summary()}{more}")
        verdict.require()
        return verdict

    async def _agree(self, records: Mapping[str, str]) -> bool:
        return not await self.divergent(records)


@pytest.fixture
async def shop(prefix: str, redis_url: str, history: History, raw: RawStore, ledger: str) -> AsyncIterator[Shop]:
    settings = {
        "TAURINE_REDIS_URL": redis_url,
        "TAURINE_DATABASE_URL": ledger,
        "TAURINE_PREFIX": prefix,
    }
    app = Taurine("errands", redis_url=redis_url, database_url=ledger, prefix=prefix)
    try:
        yield Shop(app, settings, history, raw)
    finally:
        await app.close()


async def test_f01_recorded_jobs_outlive_killed_workers(ledger_url: str, shop: Shop, seed: int, figure: Figure) -> None:
    """F01: every accepted job ends once, each repeat is explained by a kill, and records and queue agree."""
    total, kills = (1000, 4) if ledger_url.startswith("sqlite") else (600, 3)
    random, names = Random(seed), itertools.count(1)
    async with AsyncExitStack() as stack:

        async def hire() -> ErrandProcess:
            return await stack.enter_async_context(shop.worker(f"w{next(names)}"))

        crew = list(await asyncio.gather(hire(), hire(), hire()))
        numbers = await shop.enqueue(total, seconds=0.04)
        for kill in range(1, kills + 1):

            async def far_enough(share: float = kill / (kills + 1)) -> bool:
                return await shop.ended() >= total * share

            await eventually(far_enough, 60, f"the crew stopped before kill {kill}", every=0.05)
            await crew.pop(random.randrange(len(crew))).kill()
            crew.append(await hire())
        await shop.until_ended(total)
        verdict = await shop.verdict(numbers, figure)
    assert set((await shop.statuses(numbers)).values()) == {"completed"}
    assert verdict.duplicated, "no kill hit a job that had begun: the test proved nothing"


async def test_f01_killed_between_the_record_and_the_queue(shop: Shop, figure: Figure) -> None:
    """F01, P3: the queue delivers the job once more, the record says completed, and the handler is not called again."""
    numbers = [f"d{number}" for number in range(3)]
    async with AsyncExitStack() as stack:
        crew = [shop.worker(f"w-{number}", concurrency=1) for number in numbers]
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in crew))
        with shop.history.enqueuing(*numbers):
            await shop.errands.enqueue_many([Errand(number=number, ends="recorded") for number in numbers])
        assert [await worker.ended() for worker in crew] == [-signal.SIGKILL] * len(crew)
    async with shop.worker("last"):
        await shop.verdict(numbers, figure)
    assert shop.started() == Counter(numbers)


@pytest.mark.parametrize("poison", ["exit", "segfault"])
async def test_f06_a_poisonous_job_is_dead_after_so_many_crashes(shop: Shop, poison: Any, figure: Figure) -> None:
    """F06: also with attempts left, and without the company that others' jobs would make it wait for."""
    crashes, others = 2, 40
    async with shop.worker(
        "parent", processes=1, concurrency=1, max_crashes=crashes, lease=0.5, stalled_interval=0.25
    ) as parent:
        began = time.monotonic()
        await shop.errands.enqueue(Errand(number="poison", ends=poison), priority=0)
        numbers = await shop.enqueue(others)
        await shop.until_ended(others + 1)
        took = time.monotonic() - began
        restarts = parent.said.count("ended by itself")
        parent.signal(signal.SIGTERM)
        assert await parent.ended() == 0

    record = await shop.app.get("poison")
    assert record is not None
    assert record.status == "failed"
    assert shop.started()["poison"] == crashes
    letter = next(iter((await shop.app.dead_letters.list(queue="errands")).items))
    assert (letter.job_id, letter.reason) == ("poison", "crashed")
    assert set((await shop.statuses(numbers)).values()) == {"completed"}
    assert [count for number, count in shop.started().items() if number != "poison"] == [1] * others
    assert restarts == crashes
    figure(
        f"{poison}: crashes used {crashes}/{crashes}, other jobs {others}/{others} once each, all over in {took:.1f} s"
    )


async def test_f08_long_jobs_are_handed_back_at_once(shop: Shop, figure: Figure) -> None:
    """F08, P7, SEED-103: nothing is fetched after the signal, what has not ended in the grace is handed back and costs
    no attempt.
    """
    numbers = await shop.enqueue(30, seconds=30.0)
    async with shop.worker("w1", grace=1.0) as worker:
        await eventually(lambda: len(shop.started()) == 10 or None, 30, "the worker is not full")
        running = set(shop.started())

        async def shown() -> bool:
            return set((await shop.statuses(sorted(running))).values()) == {"running"}

        await eventually(shown, 20, "not shown as running")
        told = time.monotonic()
        shop.history.fault("SIGTERM", worker="w1")
        worker.signal(signal.SIGTERM)
        assert await worker.ended() == 0
        handover = time.monotonic() - told
        assert "ended 1" in worker.said, "a task lived on"

    assert set(shop.started()) == running, "fetched after the signal"
    for number in numbers:
        record = await shop.app.get(number)
        assert record is not None
        assert (record.status, record.attempts) == ("queued", 0), number
    assert await shop.divergent(dict.fromkeys(numbers, "queued")) == set()
    figure(
        f"fetched_after_term 0/10, handed back 10/10 with no attempt charged, handover_s {handover:.2f} of 1 s grace"
    )
    assert handover < 20, "it waited for the jobs of 30 s"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_jobs_end(shop: Shop, number: signal.Signals, raw: RawStore) -> None:
    """SEED-103, SEED-108, SEED-271, CON-32: both signals, exit code 0, every connection closed."""
    others = {client["id"] for client in await raw.client_list()}
    numbers = await shop.enqueue(3, seconds=1.0)
    async with shop.worker("w1") as worker:
        await eventually(lambda: len(shop.started()) == 3 or None, 30)
        worker.signal(number)
        assert await worker.ended() == 0
        assert "worker w1 stops: 3 jobs run, they have 30 s" in worker.said
        assert "ended 1" in worker.said
    assert set((await shop.statuses(numbers)).values()) == {"completed"}
    await shop.app.close()
    left = {client["id"] for client in await raw.client_list()} - others
    assert not left


async def test_f09_told_twice_and_then_killed(shop: Shop, figure: Figure) -> None:
    """F09: a second signal ends the grace; a kill in the midst of that loses nothing either."""
    total = 300
    async with AsyncExitStack() as stack:
        numbers = await shop.enqueue(total, seconds=0.1)
        first = await stack.enter_async_context(shop.worker("w1", grace=3_600))
        second = await stack.enter_async_context(shop.worker("w2", grace=3_600))
        await eventually(lambda: len(shop.started()) > 40 or None, 30)
        for worker in (first, second):
            shop.history.fault("told twice", worker=worker.name)
            worker.signal(signal.SIGTERM)
            worker.signal(signal.SIGINT)
        assert await first.ended() == 0
        await second.kill()
        await stack.enter_async_context(shop.worker("w3"))
        await shop.until_ended(total)
        await shop.verdict(numbers, figure)
    assert set((await shop.statuses(numbers)).values()) == {"completed"}


async def test_f10_many_workers_at_once_get_no_job_twice(shop: Shop, figure: Figure) -> None:
    """F10, scaled: 6 workers start at once on 1,000 ready jobs."""
    total, herd = 1000, 6
    numbers = await shop.enqueue(total)
    async with AsyncExitStack() as stack:
        crew = [shop.worker(f"w{number}", lease=30.0) for number in range(herd)]
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in crew))
        await shop.until_ended(total)
        await shop.verdict(numbers, figure, more=f", double_claims 0/{total} with {herd} workers")
    assert set(shop.started().values()) == {1}


async def test_a_rolling_restart_loses_nothing(shop: Shop, figure: Figure) -> None:
    """SEED-221, P7: three workers are replaced one after the other under a load that lasts as long, and no job notices."""
    names, numbers, over = itertools.count(1), list[str](), asyncio.Event()
    handovers: list[float] = []

    async def keep_enqueuing() -> None:
        """Jobs for three full workers, and as many that wait."""
        while not over.is_set():
            new = [f"e{number}" for number in range(len(numbers), len(numbers) + 60)]
            await enqueue_errands(shop.errands, shop.history, new, seconds=0.2)
            numbers.extend(new)
            await shop.until_ended(len(numbers) - 60)

    async with AsyncExitStack() as stack:

        async def hire() -> ErrandProcess:
            return await stack.enter_async_context(shop.worker(f"w{next(names)}", grace=20.0))

        crew = list(await asyncio.gather(hire(), hire(), hire()))
        load = asyncio.create_task(keep_enqueuing())
        await eventually(lambda: len(shop.started()) > 60 or None, 30)
        for old in crew:
            await hire()
            told = time.monotonic()
            old.signal(signal.SIGTERM)
            assert await old.ended() == 0
            handovers.append(time.monotonic() - told)
        over.set()
        await load
        await shop.until_ended(len(numbers))
        verdict = await shop.verdict(
            numbers, figure, more=f", 3 of 3 workers replaced, worst handover_s {max(handovers):.2f}"
        )
    assert not verdict.duplicated, "a restart in good order repeats nothing"
    assert set((await shop.statuses(numbers)).values()) == {"completed"}
