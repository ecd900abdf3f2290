"""From just before a job is added in one process until its handler starts on an idle worker in another."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.figures.figure import Bench, Figure
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

P50 = Row("latency_p50", "enqueue to handler start, p50", "ms", 2, (Requirement("≤", 1.2),))
P99 = Row("latency_p99", "enqueue to handler start, p99", "ms", 2, (Requirement("≤", 1.0),))

GAP_MS = 10


def latency(bench: Bench, peer: Peer) -> Values:
    p50, p99 = delays_ms(bench, peer)
    return {P50.key: p50, P99.key: p99}


def delays_ms(bench: Bench, peer: Peer) -> tuple[float, float]:
    """The median of the delays, and what one in a hundred exceeds."""
    jobs = bench.sizes.warmup_jobs + bench.sizes.paced_jobs
    with bench.started(peer, "listen", jobs=jobs, concurrency=100) as worker:
        worker.go()
        bench.run(peer, "pace", jobs=jobs, gap=GAP_MS)
        delays = worker.done().delays[bench.sizes.warmup_jobs :]
    cuts = statistics.quantiles(delays, n=100, method="inclusive")
    return cuts[49] * 1000, cuts[98] * 1000


FIGURES = (Figure("latency", "enqueue to handler start", (P50, P99), latency, "pace"),)
