"""From just before a job is added in one process until its handler starts on an idle worker in another."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks import process
from benchmarks.figures.figure import Bench, Figure
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import Peer

P50 = Row("latency_p50", "enqueue to handler start, p50", "ms", 2, Requirement("≤", 1.2))
P99 = Row("latency_p99", "enqueue to handler start, p99", "ms", 2, Requirement("≤", 1.0))

GAP_MS = 10


def latency(bench: Bench, peer: Peer) -> Values:
    jobs = bench.sizes.warmup_jobs + bench.sizes.paced_jobs
    with process.started(peer.command, "listen", bench.server.url, jobs=jobs, concurrency=100) as worker:
        worker.go()
        bench.run(peer, "pace", jobs=jobs, gap=GAP_MS)
        delays = worker.done().delays[bench.sizes.warmup_jobs :]
    p50, p99 = _percentiles(delays)
    return {P50.key: p50 * 1000, P99.key: p99 * 1000}


def _percentiles(delays: Sequence[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return cuts[49], cuts[98]


FIGURES = (Figure("latency", "enqueue to handler start", (P50, P99), latency, "pace"),)
