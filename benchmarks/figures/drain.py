"""How fast a worker empties a queue, and what CPU that costs it and the servers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures.figure import Bench, Figure
from benchmarks.process import PeerFailed
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

RATE_100 = Row("drain_100", "drain at concurrency 100", "jobs/s", required=(Requirement("≥", 2.0),))
SERVER_CPU = Row("drain_server_cpu", "server CPU per drained job", "µs", 1, (Requirement("≤", 0.5),))
WORKER_CPU = Row("drain_worker_cpu", "worker CPU per drained job", "µs", 1, (Requirement("≤", 0.6),))
RATE_10 = Row("drain_10", "drain at concurrency 10", "jobs/s", required=(Requirement("≥", 1.2),))

KEPT = 1000

# A library that does not tell when a job is settled is done a moment before its tables are.
SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Drained:
    """jobs a second, and microseconds of CPU per job: of the worker, and of all servers together."""

    rate: float
    worker_cpu: float
    server_cpu: float


def drain_100(bench: Bench, peer: Peer) -> Values:
    drained = drain(bench, peer, jobs=bench.jobs_for(peer), concurrency=100)
    return {RATE_100.key: drained.rate, SERVER_CPU.key: drained.server_cpu, WORKER_CPU.key: drained.worker_cpu}


def drain_10(bench: Bench, peer: Peer) -> Values:
    return {RATE_10.key: drain(bench, peer, jobs=bench.jobs_for(peer), concurrency=10).rate}


def drain(bench: Bench, peer: Peer, *, jobs: int, concurrency: int) -> Drained:
    """Fill an empty queue, let a worker empty it, and check that the work was done."""
    ended = _ended(bench, peer)
    bench.run(peer, "fill", jobs=jobs)
    with bench.started(peer, "drain", jobs=jobs, concurrency=concurrency) as worker:
        cpu = _server_cpu(bench)
        worker.go()
        drained = worker.done()
        cpu = _server_cpu(bench) - cpu
        check_drained(bench, peer, jobs, ended_before=ended)
    return Drained(jobs / drained.seconds, drained.cpu_seconds / jobs * 1e6, cpu / jobs * 1e6)


def check_drained(bench: Bench, peer: Peer, jobs: int, *, ended_before: int = 0) -> None:
    """The work that was timed has been done. Raises PeerFailed.

    On BullMQ's wire nothing waits or runs, and as many jobs are kept as were asked for; in SQL all have ended well, and
    none is open.
    """
    if peer.on_bullmq_wire:
        left = {state: bench.server.length(f"bull:bench:{state}") for state in ("wait", "active", "completed")}
        if left != {"wait": 0, "active": 0, "completed": min(jobs, KEPT)}:
            raise PeerFailed(f"{peer.title} reported {jobs} jobs as drained, and the server has {left}")
    if peer.database is not None:
        _check_drained_in_sql(bench, peer, jobs, ended_before)


def _check_drained_in_sql(bench: Bench, peer: Peer, jobs: int, ended_before: int) -> None:
    deadline = time.monotonic() + (0.0 if peer.on_bullmq_wire else SETTLE_SECONDS)
    while True:
        ended, left = _ended(bench, peer) - ended_before, bench.database.count(peer.open)
        if (ended, left) == (jobs, 0):
            return
        if time.monotonic() > deadline:
            raise PeerFailed(
                f"{peer.title} reported {jobs} jobs as drained; in SQL {ended} have ended and {left} are open"
            )
        time.sleep(0.05)


def _ended(bench: Bench, peer: Peer) -> int:
    return bench.database.count(peer.ended) if peer.ended else 0


def _server_cpu(bench: Bench) -> float:
    return bench.server.cpu_seconds() + bench.database.cpu_seconds()


FIGURES = (
    Figure("drain", "drain at concurrency 100", (RATE_100, SERVER_CPU, WORKER_CPU), drain_100, "drain"),
    Figure("drain", "drain at concurrency 10", (RATE_10,), drain_10, "drain"),
)
