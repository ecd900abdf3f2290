"""How fast one process adds jobs: in bulk, many at once, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.figures.figure import Bench, Figure
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

IN_BULK = Row("add_many", "bulk add, 1,000 at a time", "jobs/s", required=(Requirement("≥", 3.0),))
AT_ONCE = Row("add_concurrent", "1,000 concurrent adds", "jobs/s", required=(Requirement("≥", 2.0),))
IN_TURN = Row("add_one", "one awaited add after another", "jobs/s", required=(Requirement("≥", 0.8),))


def add_many(bench: Bench, peer: Peer) -> Values:
    jobs = bench.jobs_for(peer)
    return {IN_BULK.key: jobs / bench.run(peer, "add_many", jobs=jobs, chunk=1000).seconds}


def add_concurrent(bench: Bench, peer: Peer) -> Values:
    jobs = max(1000, bench.jobs_for(peer))
    return {AT_ONCE.key: jobs / bench.run(peer, "add_concurrent", jobs=jobs, chunk=1000).seconds}


def add_one(bench: Bench, peer: Peer) -> Values:
    jobs = bench.sizes.awaited_jobs
    return {IN_TURN.key: jobs / bench.run(peer, "add_one", jobs=jobs).seconds}


FIGURES = (
    Figure("add", IN_BULK.title, (IN_BULK,), add_many, "add_many"),
    Figure("add", AT_ONCE.title, (AT_ONCE,), add_concurrent, "add_concurrent"),
    Figure("add", IN_TURN.title, (IN_TURN,), add_one, "add_one"),
)
