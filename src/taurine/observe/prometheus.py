"""What `/metrics` shows: one look at both servers, as Prometheus reads it.

The number of series is bounded. Queues, job types and schedules that this code does not declare, and that are not in
use by Taurine itself, are added up as `other`, since anybody may have chosen their names; tenants and job ids are in no
label. A look is bounded in time, and scrapes within a second share one, so that scraping costs the servers the same
however many scrape.

The names of `bullmq_*` are those that BullMQ's own exporter prints, and those of dashboards that were made for it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from taurine.clock import Clock
from taurine.errors import InvalidOption
from taurine.heartbeat import Heartbeat
from taurine.jobs.operations.readings import LedgerReadings, Readings, StoreReadings
from taurine.jobs.operations.throughput import Distribution, Throughput
from taurine.jobs.reporting.tally import OTHER
from taurine.ledger.tallies import BOUNDS, Outcome
from taurine.observe.shared_look import SharedLook

if TYPE_CHECKING:
    from prometheus_client import Metric

__all__ = ["CONTENT_TYPE", "Exposition", "Observed", "exposition_of", "heartbeat_families"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_OUTCOMES: tuple[Outcome, ...] = ("completed", "failed", "retried", "cancelled", "expired", "snoozed", "crashed")

_WORKER_STATES = ("running", "lost")

Labels: TypeAlias = tuple[str, ...]
Values: TypeAlias = dict[Labels, float]


class Observed(Protocol):
    """The application, as far as it is looked at."""

    @property
    def clock(self) -> Clock: ...
    @property
    def catalog(self) -> _Catalog: ...
    async def readings(self, *, within: float = 2.0) -> Readings: ...


class _Catalog(Protocol):
    @property
    def queues(self) -> Collection[str]: ...
    def __iter__(self) -> Iterator[Any]: ...


class Exposition:
    """The text of `/metrics` of one application. within: seconds that each server has for a look. Default: 2.

    Raises InvalidOption where the extra `metrics` is not installed.
    """

    def __init__(self, app: Observed, *, within: float = 2.0) -> None:
        _require_client()
        self._app = app
        self._within = within
        self._look = SharedLook(self._take, app.clock)

    async def text(self) -> bytes:
        """What there is to see, in Prometheus's text format; `CONTENT_TYPE` is its type.

        Calls within one second get the same.
        """
        return await self._look.get()

    async def _take(self) -> bytes:
        readings = await self._app.readings(within=self._within)
        catalog = self._app.catalog
        queues = frozenset({*catalog.queues, *readings.own_queues})
        names = _Names(queues, frozenset(job_type.name for job_type in catalog))
        return exposition_of(_families(readings, names))


def exposition_of(families: Iterable[Metric]) -> bytes:
    """Families of metrics as text."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(list(families)))
    return generate_latest(registry)


def heartbeat_families(heartbeats: Iterable[Heartbeat]) -> Iterator[Metric]:
    """What a process can tell of its own loops, also while its event loop is stuck."""
    beats = list(heartbeats)
    yield _gauge("taurine_process_loop_age_seconds", "Seconds since a loop of this process turned.", ("loop",), {(one.name,): one.age for one in beats})  # fmt: skip
    yield _gauge("taurine_process_loop_late", "1 where a loop of this process is stuck.", ("loop",), {(one.name,): float(one.late > 0) for one in beats})  # fmt: skip


class _Collector:
    """Families that are ready.

    A registry of its own holds it: nothing of the process's default one is mixed in, and nothing of ours gets there.
    """

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


@dataclass(frozen=True, slots=True)
class _Names:
    """Which names may be labels."""

    queues: frozenset[str]
    types: frozenset[str]

    def queue(self, name: str) -> str:
        return name if name in self.queues else OTHER

    def type(self, name: str | None) -> str:
        return name if name is not None and name in self.types else OTHER


def _families(readings: Readings, names: _Names) -> Iterator[Metric]:
    up = {("ledger",): float(readings.ledger is not None), ("store",): float(readings.store is not None)}
    yield _gauge("taurine_up", "1 where the server answered: the ledger, the store of queues.", ("store",), up)
    if readings.ledger is not None:
        yield from _of_ledger(readings, readings.ledger, names)
    if readings.store is not None:
        yield from _of_store(readings.store, names)


# The ledger ---------------------------------------------------------------------------------------------------------------------------


def _of_ledger(readings: Readings, ledger: LedgerReadings, names: _Names) -> Iterator[Metric]:
    queues = [(names.queue(name), found) for name, found in ledger.records.items()]
    yield _gauge(
        "taurine_jobs",
        "Records of jobs by status; 10,000 stands for that many or more.",
        ("queue", "status"),
        _summed(((queue, status), count.number) for queue, found in queues for status, count in found.counts.items()),
    )
    ages = {name: readings.oldest_waiting(name) or 0.0 for name in {*names.queues, *ledger.records}}
    yield _gauge(
        "taurine_oldest_waiting_seconds",
        "How long the first job has been due that waits for its first start; 0 for none.",
        ("queue",),
        _largest((names.queue(name), age) for name, age in ages.items()),
    )
    yield _gauge(
        "taurine_outbox_jobs",
        "Accepted jobs that their queue has not been told of.",
        ("queue",),
        {(names.queue(queue),): float(lag.waiting) for queue, lag in ledger.undelivered.items()},
    )
    yield _gauge(
        "taurine_outbox_oldest_seconds",
        "Since when the first of them has waited.",
        ("queue",),
        {(names.queue(queue),): lag.lag_ms / 1000 for queue, lag in ledger.undelivered.items()},
    )
    dead = {**dict.fromkeys(names.queues, 0), **ledger.dead_letters}
    yield _gauge(
        "taurine_dead_letters",
        "Dead letters that nobody has dealt with.",
        ("queue",),
        _summed(((names.queue(queue),), number) for queue, number in dead.items()),
    )
    yield from _of_totals(ledger.totals, names)
    yield from _of_workers(ledger, names)


def _of_totals(totals: Iterable[Throughput], names: _Names) -> Iterator[Metric]:
    groups: dict[Labels, list[Throughput]] = {}
    for one in totals:
        groups.setdefault((names.queue(one.queue), names.type(one.type)), []).append(one)
    yield _counter(
        "taurine_job_outcomes",
        "Attempts that ended, by what they came to; `failed` are dead jobs, of which `crashed` lost their workers.",
        ("queue", "type", "outcome"),
        {
            (*key, outcome): sum(one.of(outcome) for one in group)
            for key, group in groups.items()
            for outcome in _OUTCOMES
        },
    )
    yield _counter(
        "taurine_leases_lost",
        "Jobs that a worker held too long without a sign of life, so that another one has them.",
        ("queue", "type"),
        {key: sum(one.of("lease_lost") for one in group) for key, group in groups.items()},
    )
    waits = {key: [one.wait for one in group] for key, group in groups.items()}
    yield _histogram("taurine_job_wait_seconds", "From when a job was due to its first start.", waits)
    runs = {key: [one.run for one in group] for key, group in groups.items()}
    yield _histogram("taurine_job_run_seconds", "How long attempts ran.", runs)
    completed, failed = _by_queue(groups, "completed", names), _by_queue(groups, "failed", names)
    yield _counter("bullmq_job_completed", "Total number of completed jobs; see taurine_job_outcomes_total.", ("queue",), completed)  # fmt: skip
    yield _counter("bullmq_job_failed", "Total number of failed jobs; see taurine_job_outcomes_total.", ("queue",), failed)  # fmt: skip
    yield _counter("bullmq_failed_jobs", "Another name of bullmq_job_failed_total.", ("queue",), failed)


def _by_queue(groups: Mapping[Labels, list[Throughput]], outcome: Outcome, names: _Names) -> Values:
    none: list[tuple[Labels, int]] = [((queue,), 0) for queue in names.queues]
    found = [((key[0],), one.of(outcome)) for key, group in groups.items() for one in group]
    return _summed([*none, *found])


def _of_workers(ledger: LedgerReadings, names: _Names) -> Iterator[Metric]:
    workers = [worker for worker in ledger.workers if worker.state != "stopped"]
    running = [worker for worker in workers if worker.state == "running"]
    none: list[tuple[Labels, int]] = [((queue, state), 0) for queue in names.queues for state in _WORKER_STATES]
    found = [((names.queue(queue), str(worker.state)), 1) for worker in workers for queue in worker.queues]
    yield _gauge(
        "taurine_workers",
        "Workers of a queue. One that has been silent for a minute is lost, and forgotten after a day.",
        ("queue", "state"),
        _summed([*none, *found]),
    )
    yield _gauge("taurine_worker_slots", "Jobs that all workers together may run at once.", (), {(): sum(worker.slots for worker in running)})  # fmt: skip
    yield _gauge("taurine_worker_busy", "Jobs that they run.", (), {(): sum(worker.busy for worker in running)})
    looked = [worker.diverged for worker in running if worker.diverged is not None]
    yield _gauge(
        "taurine_diverged_jobs",
        "Jobs that the ledger and the queues told apart when they were compared last; they were mended, unless they have no record.",
        (),
        {(): max(looked, default=0)},
    )
    loops = [(name, loop) for worker in running for name, loop in worker.loops.items()]
    yield _gauge(
        "taurine_loop_age_seconds",
        "Seconds since a loop had turned when its worker told last, the largest of all workers.",
        ("loop",),
        _largest((name, loop.age) for name, loop in loops),
    )
    yield _gauge(
        "taurine_loop_late",
        "Workers in which a loop is stuck.",
        ("loop",),
        _summed(((name,), int(loop.late)) for name, loop in loops),
    )


# The store ----------------------------------------------------------------------------------------------------------------------------


def _of_store(store: StoreReadings, names: _Names) -> Iterator[Metric]:
    counts = {(queue, state): number for queue, found in store.queues.items() for state, number in found.counts.items()}
    labels = ("queue", "state")
    yield _gauge("taurine_queue_jobs", "Jobs on the server of queues, by state.", labels, counts)
    paused = {(queue,): float(found.paused) for queue, found in store.queues.items()}
    yield _gauge("taurine_queue_paused", "1 for a queue of which no worker starts jobs.", ("queue",), paused)
    yield _gauge(
        "taurine_schedule_late_seconds",
        "Seconds since the next tick of a schedule was due; 0 while it is still to come.",
        ("schedule",),
        _largest((one.id if one.declared else OTHER, one.late) for one in store.schedules),
    )
    del names  # only declared queues are asked for
    yield _gauge("bullmq_job_count", "Number of jobs in the queue by state; see taurine_queue_jobs.", labels, counts)
    waiting = {
        (queue,): sum(found.counts.get(state, 0) for state in ("waiting", "prioritized"))
        for queue, found in store.queues.items()
    }
    yield _gauge("bullmq_waiting_jobs", "Jobs that wait for a worker, those with a priority included.", ("queue",), waiting)  # fmt: skip


# Families -----------------------------------------------------------------------------------------------------------------------------


def _gauge(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: Labels, values: Mapping[Labels, float]) -> Metric:
    """name: without `_total`, which the format adds."""
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in sorted(values.items()):
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, values: Mapping[Labels, list[Distribution]]) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=("queue", "type"))
    for key, parts in sorted(values.items()):
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound in (*(ms / 1000 for ms in BOUNDS), float("inf")):
            below += sum(part.buckets.get(bound, 0) for part in parts)
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), below))
        family.add_metric(key, buckets, sum(part.total for part in parts))
    return family


def _summed(entries: Iterable[tuple[Labels, float]]) -> Values:
    found: Values = {}
    for key, value in entries:
        found[key] = found.get(key, 0) + value
    return found


def _largest(entries: Iterable[tuple[str, float]]) -> Values:
    found: Values = {}
    for name, value in entries:
        found[name,] = max(found.get((name,), 0.0), value)
    return found


def _require_client() -> None:
    try:
        import prometheus_client  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        raise InvalidOption("metrics need the extra `metrics`: pip install 'taurine[metrics]'") from None
