"""`taurine bench`: how fast this is on your own servers."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from taurine.cli.commands.options import AsJson
from taurine.cli.failures import DONE, codes
from taurine.cli.running import run

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.catalog.job_type import JobType

__all__ = ["add_to"]

ResultT = TypeVar("ResultT")

_TYPE = "taurine.bench"
_BATCH = 1000
"""Jobs of one call; each is one transaction."""

_TRIPS = 100
"""Jobs that are enqueued one after the other, to see how long each takes."""


@dataclass
class Rates:
    """What was measured. Seconds, and jobs a second."""

    jobs: int
    concurrency: int
    enqueue_seconds: float = 0.0
    enqueue_rate: float = 0.0
    drain_seconds: float = 0.0
    drain_rate: float = 0.0
    round_trip_p50_ms: float = 0.0
    round_trip_p99_ms: float = 0.0


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    program.command(epilog=codes())(bench)


def bench(
    context: typer.Context,
    *,
    number: Annotated[int, typer.Option("--jobs", "-n", metavar="N", min=1, help="Jobs to add and run.")] = 5000,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", metavar="N", min=1, help="Jobs at once.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this is on your own servers.

    Jobs that do nothing are added and run, with their records, in a queue of their own that is removed afterwards.
    """

    async def measure(app: Taurine, output: Output) -> int:
        from taurine.app import Taurine
        from taurine.ids import unique_id
        from taurine.retry import Retry

        settings = app.settings
        own = Taurine(
            "taurine-bench",
            redis_url=settings.redis_url or "embedded",
            database_url=settings.database_url or "sqlite",
            home=settings.home,
            prefix=settings.prefix,
            lease=settings.lease,
            env=settings.env,
            alerts=(),
        )
        queue = f"taurine-bench-{unique_id()[:8]}"
        done = _Counter()

        @own.job(_TYPE, queue=queue, retry=Retry.NONE)
        async def nothing(_number: int) -> None:
            done.number += 1

        rates = Rates(number, concurrency)
        try:
            await _measure(own, nothing, rates=rates, done=done, output=output)
        finally:
            await _clean_up(own, queue, output)
        if output.as_json:
            output.json(asdict(rates))
        else:
            _print(output, rates)
        return DONE

    run(context, measure, as_json=as_json)


@dataclass
class _Counter:
    number: int = 0


async def _measure(app: Taurine, job_type: JobType[int, None], *, rates: Rates, done: _Counter, output: Output) -> None:
    from asyncio import sleep

    from taurine import Upkeep
    from taurine.cli.progress import progress

    with progress(output) as show:
        show("preparing")
        await app.migrate() if app.settings.env == "dev" else None
        await app.queues.list()  # opens both servers, which is none of what is measured
        started = time.perf_counter()
        for first in range(0, rates.jobs, _BATCH):
            await _whole(job_type.enqueue_many(range(first, min(first + _BATCH, rates.jobs))))
            show("enqueue", min(first + _BATCH, rates.jobs), rates.jobs)
        rates.enqueue_seconds = time.perf_counter() - started
        rates.enqueue_rate = rates.jobs / rates.enqueue_seconds
        started = time.perf_counter()
        # No upkeep: how long dead letters and others are kept is for the user's own workers to say.
        idle = Upkeep(reconcile_every=None, expire_every=None, purge_every=None)
        async with app.worker(concurrency=rates.concurrency, upkeep=idle):
            while done.number < rates.jobs or await app.queues.has_work([job_type.queue]):
                show("run", min(done.number, rates.jobs), rates.jobs)
                await sleep(0.01)
            rates.drain_seconds = time.perf_counter() - started
            rates.drain_rate = rates.jobs / rates.drain_seconds
            trips: list[float] = []
            for number in range(_TRIPS):
                began = time.perf_counter()
                await (await _whole(job_type.enqueue(number))).result(timeout=60)
                trips.append((time.perf_counter() - began) * 1000)
                show("one by one", number + 1, _TRIPS)
    trips.sort()
    rates.round_trip_p50_ms, rates.round_trip_p99_ms = trips[len(trips) // 2], trips[int(len(trips) * 0.99)]


async def _whole(accepting: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Wait for its end also when it is broken off: what is committed a moment later would be left behind."""
    from asyncio import CancelledError, create_task, shield, wait

    task = create_task(accepting)
    try:
        return await shield(task)
    except CancelledError:
        await wait({task})
        raise


async def _clean_up(app: Taurine, queue: str, output: Output) -> None:
    """Remove the queue and its records, also when the measurement was broken off; a second Ctrl-C leaves them."""
    from taurine.errors import TaurineError

    try:
        await app.queues.remove(queue, user="taurine bench")
    except TaurineError as error:
        output.warning(f"the queue {queue} could not be removed: {error}")
    finally:
        await app.close()


def _print(output: Output, rates: Rates) -> None:
    facts: list[tuple[str, Any]] = [
        (
            "enqueue",
            f"{rates.enqueue_rate:,.0f} jobs a second ({rates.jobs:,} in {rates.enqueue_seconds:.2f} s, up to {_BATCH:,} in a call)",
        ),
        (
            "run",
            f"{rates.drain_rate:,.0f} jobs a second ({rates.jobs:,} in {rates.drain_seconds:.2f} s, {rates.concurrency} at once)",
        ),
        (
            "one by one",
            f"{rates.round_trip_p50_ms:.1f} ms from enqueue to result (p50), {rates.round_trip_p99_ms:.1f} ms (p99)",
        ),
    ]
    output.facts(facts)
