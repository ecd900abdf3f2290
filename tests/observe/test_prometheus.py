"""What `/metrics` shows, read back by Prometheus' own parser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from support.eventually import eventually
from taurine import Context
from taurine.app import Taurine
from taurine.jobs.operations.bulk import OPERATIONS_QUEUE
from taurine.jobs.operations.bulk_orders import BulkFilter
from taurine.jobs.operations.readings import Readings
from taurine.jobs.reconciler.upkeep import Upkeep
from taurine.observe.alerts import NoWorker
from taurine.observe.alerts.look import Look
from taurine.observe.health import HealthLimits, health_of_queues
from taurine.observe.prometheus import Exposition
from taurine.retry import Retry
from taurine.testing import TestClock

OFTEN = Upkeep(report_every=0.05, reconcile_every=0.05)
WEIRD = 'we"ird\\type'


async def samples_of(app: Taurine) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    found = (await Exposition(app).text()).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(found)
        for sample in family.samples
    }


def value(samples: dict[Any, float], name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    assert key in samples, f"{key} is not among {[found for found in samples if found[0] == name]}"
    return samples[key]


async def test_the_figures_of_jobs_queues_and_workers_are_there(app: Taurine) -> None:
    """SEED-071 to 073, 154, 186, 248, BMQ-137, CON-25: own names, BullMQ's exporter's and those of the rows; a label
    with a quote is escaped.
    """

    @app.job(WEIRD, queue="mail", retry=Retry(attempts=1))
    async def weird(number: int) -> None:
        if number == 0:
            raise ValueError("no")

    app.cron("0 3 * * *", id="nightly", queue="rare")(nothing)
    async with app:
        handles = [await weird.enqueue(number) for number in range(3)]
        async with app.worker(upkeep=OFTEN, concurrency=2):
            await eventually(lambda: _ended(app, len(handles)))
            samples = await samples_of(app)
    kind = {"queue": "mail", "type": WEIRD}
    assert value(samples, "taurine_up", store="ledger") == value(samples, "taurine_up", store="store") == 1
    assert value(samples, "taurine_job_outcomes_total", **kind, outcome="completed") == 2
    assert value(samples, "taurine_job_outcomes_total", **kind, outcome="failed") == 1
    assert value(samples, "taurine_job_run_seconds_count", **kind) == 3
    assert value(samples, "taurine_job_wait_seconds_bucket", **kind, le="+Inf") == 3
    assert value(samples, "taurine_jobs", queue="mail", status="failed") == 1
    assert value(samples, "taurine_queue_jobs", queue="mail", state="completed") == 2
    assert value(samples, "taurine_dead_letters", queue="mail") == 1
    assert value(samples, "taurine_workers", queue="mail", state="running") == 1
    assert value(samples, "taurine_worker_slots") == 4
    assert value(samples, "taurine_outbox_jobs", queue="mail") == 0
    assert value(samples, "taurine_outbox_oldest_seconds", queue="mail") == 0
    assert value(samples, "taurine_oldest_waiting_seconds", queue="rare") == 0
    assert value(samples, "taurine_schedule_late_seconds", schedule="nightly") == 0
    assert value(samples, "taurine_diverged_jobs") == 0
    assert value(samples, "taurine_loop_late", loop="reconciler") == 0
    assert value(samples, "taurine_leases_lost_total", **kind) == 0
    assert value(samples, "taurine_queue_paused", queue="mail") == 0
    assert value(samples, "bullmq_job_count", queue="mail", state="failed") == 1
    assert value(samples, "bullmq_job_completed_total", queue="mail") == 2
    assert value(samples, "bullmq_job_failed_total", queue="mail") == 1
    assert value(samples, "bullmq_failed_jobs_total", queue="mail") == 1
    assert value(samples, "bullmq_waiting_jobs", queue="mail") == 0


async def nothing(ctx: Context) -> None: ...


async def _ended(app: Taurine, count: int) -> bool:
    return sum(one.ended for one in await app.totals()) >= count


async def test_names_that_nobody_declared_are_one_label(app_factory: Callable[..., Taurine]) -> None:
    """Cardinality: what other programs put into the ledger, tenants included, is `other` here."""
    others = app_factory("others")
    types = [others.declare(f"theirs.{number}", int, queue=f"theirs-{number}") for number in range(4)]
    for number, job_type in enumerate(types):
        handle = await job_type.enqueue(1, tenant=f"acme-{number}")
        await others.cancel(handle.id)
    app = app_factory("ours")
    app.declare("ours", int, queue="mine")
    samples = await samples_of(app)
    labels = {label for _, found in samples for label in found}
    assert {label for name, label in labels if name == "queue"} == {"mine", "other"}
    assert {label for name, label in labels if name == "type"} == {"other"}
    assert not {name for name, _ in labels} & {"tenant", "job_id"}
    assert not any("acme" in label or "theirs" in label for _, label in labels)
    assert value(samples, "taurine_job_outcomes_total", queue="other", type="other", outcome="cancelled") == 4
    assert value(samples, "taurine_jobs", queue="other", status="cancelled") == 4


async def test_a_paused_queue_and_a_job_that_waits_are_seen(app: Taurine) -> None:
    """SEED-073, SEED-152."""
    work = app.declare("report.render", int)
    await app.queues.pause("jobs")
    await work.enqueue(1)
    samples = await samples_of(app)
    assert value(samples, "taurine_queue_paused", queue="jobs") == 1
    assert value(samples, "bullmq_waiting_jobs", queue="jobs") == 1
    assert value(samples, "taurine_oldest_waiting_seconds", queue="jobs") >= 0
    assert value(samples, "taurine_workers", queue="jobs", state="running") == 0


async def test_what_one_server_does_not_say_is_left_out_and_the_other_is_there(
    app_factory: Callable[..., Taurine],
) -> None:
    app = app_factory(redis_url="redis://127.0.0.1:1")
    app.declare("report.render", int)
    samples = await samples_of(app)
    assert value(samples, "taurine_up", store="store") == 0
    assert value(samples, "taurine_dead_letters", queue="jobs") == 0
    assert not any(name.startswith("taurine_queue_") for name, _ in samples)


async def test_without_the_ledger_the_queues_are_there(app: Taurine) -> None:
    work = app.declare("report.render", int)
    await work.enqueue(1)
    backend = app._backend()
    await backend.database.write(lambda connection: connection.execute(text("DROP TABLE taurine_tally")))
    samples = await samples_of(app)
    assert value(samples, "taurine_up", store="ledger") == 0
    assert value(samples, "taurine_queue_jobs", queue="jobs", state="waiting") == 1
    assert not any(name.startswith("taurine_job") for name, _ in samples)


class Looked:
    """An application of which it is counted how often it is looked at."""

    def __init__(self, app: Taurine) -> None:
        self.clock, self.catalog = app.clock, app.catalog
        self.looks = 0

    async def readings(self, *, within: float = 2.0) -> Readings:
        assert within == 2.0
        self.looks += 1
        await asyncio.sleep(0)
        return Readings(at=0.0, ledger=None, store=None)


async def test_scrapes_within_a_second_share_one_look(app_factory: Callable[..., Taurine]) -> None:
    clock = TestClock()
    looked = Looked(app_factory(clock=clock))
    exposition = Exposition(looked)
    texts = await asyncio.gather(*(exposition.text() for _ in range(20)))
    assert looked.looks == 1
    assert len(set(texts)) == 1
    impatient = asyncio.create_task(exposition.text())
    impatient.cancel()
    clock.advance(0.9)
    await exposition.text()
    assert looked.looks == 1
    clock.advance(0.2)
    await exposition.text()
    assert looked.looks == 2


async def test_the_queue_of_bulk_operations_is_seen_once_it_is_in_use(app: Taurine) -> None:
    """An order that nobody carries out is as bad as a job that nobody runs: metrics, health and `no_worker` tell of it,
    and know who works there.
    """

    @app.job("mail.send", queue="mail")
    async def send(number: int) -> None: ...

    del send  # the catalog has it
    own, no_worker, limits = OPERATIONS_QUEUE, NoWorker(), HealthLimits(waiting=0)
    async with app:
        unused = await samples_of(app)
        await app.bulk.start("cancel", where=BulkFilter(type="mail.send"), limit=1)
        readings = await app.readings()
        used = await samples_of(app)
        unwell = health_of_queues(readings, [], limits, queues=["mail"])
        findings = await no_worker.findings(Look(app._backend(), readings, application=app.name))
        async with app.worker(upkeep=OFTEN):
            await eventually(lambda: _has_worker(app, own))
            served = await no_worker.findings(Look(app._backend(), await app.readings(), application=app.name))

    assert own not in {label for _, labels in unused for _, label in labels}
    assert value(used, "taurine_jobs", queue=own, status="queued") == 1
    assert value(used, "taurine_queue_jobs", queue=own, state="waiting") == 1
    assert value(used, "taurine_workers", queue=own, state="running") == 0
    assert {one.name: one.healthy for one in unwell} == {"mail": True, own: False}
    assert {one.subject: one.value for one in findings} == {"mail": 0, own: 1}
    assert {one.subject: one.value for one in served} == {"mail": 0, own: 0}


async def _has_worker(app: Taurine, queue: str) -> bool:
    return any(queue in worker.queues for worker in await app.workers.list())
