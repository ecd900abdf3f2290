"""What a waiting job costs the server in memory."""

from __future__ import annotations

from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import BULLMQ, TAURINE, Peer
from benchmarks.results import Requirement, Row, Values

BYTES = Row("bytes_per_job", "memory per waiting job", "bytes", required=(Requirement("≤", 1.0),))

# Scripts, the queue's own keys and the full event stream are there before the counting starts.
WARMUP_JOBS = 12_000


def memory(bench: Bench, peer: Peer) -> Values:
    jobs = bench.sizes.jobs
    bench.run(peer, "fill", jobs=WARMUP_JOBS)
    before = bench.server.used_bytes()
    bench.run(peer, "fill", jobs=jobs)
    return {BYTES.key: (bench.server.used_bytes() - before) / jobs}


FIGURES = (
    Figure("memory", BYTES.title, (BYTES,), memory, "fill", frozenset({BULLMQ.key, TAURINE.key}), repeated=False),
)
