"""How fast a worker empties a queue, and what CPU that costs it and the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks import process
from benchmarks.figures.figure import Bench, Figure
from benchmarks.process import PeerFailed
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

RATE_100 = Row("drain_100", "drain at concurrency 100", "jobs/s", required=Requirement("≥", 2.0))
SERVER_CPU = Row("drain_server_cpu", "server CPU per drained job", "µs", 1, Requirement("≤", 0.5))
WORKER_CPU = Row("drain_worker_cpu", "worker CPU per drained job", "µs", 1, Requirement("≤", 0.6))
RATE_10 = Row("drain_10", "drain at concurrency 10", "jobs/s", required=Requirement("≥", 1.2))

KEPT = 1000


def drain_100(bench: Bench, peer: Peer) -> Values:
    return _drain(bench, peer, concurrency=100)


def drain_10(bench: Bench, peer: Peer) -> Values:
    return {RATE_10.key: _drain(bench, peer, concurrency=10)[RATE_100.key]}


def _drain(bench: Bench, peer: Peer, *, concurrency: int) -> dict[str, float]:
    jobs = bench.jobs_for(peer)
    bench.run(peer, "fill", jobs=jobs)
    with process.started(peer.command, "drain", bench.server.url, jobs=jobs, concurrency=concurrency) as worker:
        server_cpu = bench.server.cpu_seconds()
        worker.go()
        drained = worker.done()
        server_cpu = bench.server.cpu_seconds() - server_cpu
        if peer.on_bullmq_wire:
            _check_drained(bench, peer, jobs)
    return {
        RATE_100.key: jobs / drained.seconds,
        SERVER_CPU.key: server_cpu / jobs * 1e6,
        WORKER_CPU.key: drained.cpu_seconds / jobs * 1e6,
    }


def _check_drained(bench: Bench, peer: Peer, jobs: int) -> None:
    """The work that was timed has been done: nothing waits or runs, and as many are kept as were asked for."""
    left = {state: bench.server.length(f"bull:bench:{state}") for state in ("wait", "active", "completed")}
    if left != {"wait": 0, "active": 0, "completed": min(jobs, KEPT)}:
        raise PeerFailed(f"{peer.title} reported {jobs} jobs as drained, and the server has {left}")


FIGURES = (
    Figure("drain", "drain at concurrency 100", (RATE_100, SERVER_CPU, WORKER_CPU), drain_100, "drain"),
    Figure("drain", "drain at concurrency 10", (RATE_10,), drain_10, "drain"),
)
