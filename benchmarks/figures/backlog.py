"""Whether a long queue slows a worker: the same number of jobs drained from a short queue and from a long one."""

from __future__ import annotations

import statistics
from dataclasses import replace

from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import TAURINE, Peer
from benchmarks.results import Requirement, Row, Values
from benchmarks.server import running_server

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
    """Each queue has a server that has just started, and they take turns: a machine that slows down meanwhile slows
    both.
    """
    short: list[float] = []
    long: list[float] = []
    with running_server() as of_short, running_server() as of_long:
        on_short, on_long = replace(bench, server=of_short), replace(bench, server=of_long)
        # The last repeat too finds the whole backlog behind its own jobs.
        on_long.run(peer, "fill", jobs=bench.sizes.backlog + REPEATS * DRAINED)
        for _ in range(REPEATS):
            on_short.run(peer, "fill", jobs=DRAINED)
            short.append(_rate(on_short, peer))
            of_short.flush()
            long.append(_rate(on_long, peer))
    return {SHORT.key: statistics.median(short), LONG.key: statistics.median(long)}


def _rate(bench: Bench, peer: Peer) -> float:
    return DRAINED / bench.run(peer, "drain", jobs=DRAINED, concurrency=100).seconds


FIGURES = (Figure("backlog", "drain with a backlog", (SHORT, LONG), backlog, "drain", frozenset({TAURINE.key})),)
