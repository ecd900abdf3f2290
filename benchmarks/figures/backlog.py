"""Whether a long queue slows a worker: the same number of jobs drained from a short queue and from a long one."""

from __future__ import annotations

import statistics

from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import TAURINE, Peer
from benchmarks.results import Requirement, Row, Values

DRAINED = 10_000
REPEATS = 15

SHORT = Row("backlog_short", f"drain of {DRAINED:,} without a backlog", "jobs/s")
LONG = Row(
    "backlog_long",
    f"drain of {DRAINED:,} with a backlog",
    "jobs/s",
    required=(Requirement("≥", 0.9, baseline="own", own_row=SHORT.key),),
)


def backlog(bench: Bench, peer: Peer) -> Values:
    short: list[float] = []
    for _ in range(REPEATS):
        bench.run(peer, "fill", jobs=DRAINED)
        short.append(_rate(bench, peer))
        bench.server.flush()
    # The last repeat too finds the whole backlog behind its own jobs.
    bench.run(peer, "fill", jobs=bench.sizes.backlog + REPEATS * DRAINED)
    long = [_rate(bench, peer) for _ in range(REPEATS)]
    return {SHORT.key: statistics.median(short), LONG.key: statistics.median(long)}


def _rate(bench: Bench, peer: Peer) -> float:
    return DRAINED / bench.run(peer, "drain", jobs=DRAINED, concurrency=100).seconds


FIGURES = (Figure("backlog", "drain with a backlog", (SHORT, LONG), backlog, "drain", frozenset({TAURINE.key})),)
