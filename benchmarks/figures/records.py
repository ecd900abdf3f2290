"""Jobs with their records in SQL: what the records cost, beside our engine without them and beside peers that keep
their jobs in PostgreSQL.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.figures.drain import check_drained, drain
from benchmarks.figures.figure import Bench, Figure
from benchmarks.figures.latency import delays_ms
from benchmarks.peers import BULLMQ, PGQUEUER, PROCRASTINATE, TAURINE, TAURINE_POSTGRESQL, TAURINE_SQLITE
from benchmarks.process import PeerFailed
from benchmarks.results import ABSOLUTE, OWN, Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

KEY = "records"

SQLITE, POSTGRESQL = TAURINE_SQLITE.key, TAURINE_POSTGRESQL.key
OURS = frozenset({SQLITE, POSTGRESQL})
IN_SQL = OURS | {PROCRASTINATE.key, PGQUEUER.key}
ALL = IN_SQL | {BULLMQ.key, TAURINE.key}

DRAINED = 10_000
REPEATS = 3

# Each of them is a commit of its own.
AWAITED = 1_000

RATE = Row(
    "records_drain",
    "drain at concurrency 100",
    "jobs/s",
    required=(
        Requirement("≥", 0.6, of=SQLITE, aim=1.0),
        Requirement("≥", 0.4, of=POSTGRESQL, aim=1.0),
        Requirement("≥", 5.0, f"peer:{PROCRASTINATE.key}", of=POSTGRESQL),
        Requirement("≥", 0.5, f"peer:{PGQUEUER.key}", of=POSTGRESQL, aim=1.0),
    ),
)
WORKER_CPU = Row("records_worker_cpu", "worker CPU per drained job", "µs", 1)
SERVER_CPU = Row("records_server_cpu", "CPU of all servers per drained job", "µs", 1)
IN_BULK = Row(
    "records_add_many",
    "bulk add, 1,000 at a time",
    "jobs/s",
    required=tuple(Requirement("≥", 0.15, f"peer:{TAURINE.key}", of=ours) for ours in (SQLITE, POSTGRESQL)),
)
ONE = Row("records_add_one_p50", "one awaited add, p50", "ms", 2, (Requirement("≤", 3.0, ABSOLUTE, of=SQLITE),))
IN_TURN = Row("records_add_one", "one awaited add after another", "jobs/s")
AT_ONCE = Row(
    "records_add_concurrent",
    "1,000 concurrent adds",
    "jobs/s",
    required=(Requirement("≥", 5.0, OWN, IN_TURN.key, of=SQLITE),),
)
P50 = Row("records_latency_p50", "enqueue to handler start, p50", "ms", 2)
P99 = Row("records_latency_p99", "enqueue to handler start, p99", "ms", 2)
START = Row("records_start", "start of a process to its first job added", "ms")
EARLY = Row("records_memory_early", "memory of a worker after a tenth of its jobs", "MiB", 1)
LATE = Row(
    "records_memory_late",
    "memory of a worker after its last job",
    "MiB",
    1,
    tuple(Requirement("≤", 1.1, OWN, EARLY.key, of=ours) for ours in (SQLITE, POSTGRESQL)),
)
FRESH = Row("records_fresh", f"drain of {DRAINED:,}, few records in the ledger", "jobs/s")
LONG = Row(
    "records_long",
    f"drain of {DRAINED:,}, many finished records in the ledger",
    "jobs/s",
    required=tuple(Requirement("≥", 0.9, OWN, FRESH.key, of=ours) for ours in (SQLITE, POSTGRESQL)),
)

PAYLOAD_TEXT = '{"i":1,"user":"u1"}'

# As a worker leaves them. They ended an hour to a day ago: the ledger keeps them, and the loops that look at recent ones
# are past them.
FINISHED = """\
INSERT INTO taurine_job (id, type, queue, status, fence, attempts, max_attempts, payload, output, worker, source,
                         created_at, updated_at, dispatched_at, started_at, finished_at)
WITH RECURSIVE counted (number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM counted WHERE number < :count)
SELECT 'finished-' || number, 'bench.noop', 'bench', 'completed', 1, 1, 3, :payload, 'null', 'worker-1', 'bench',
       created_at, created_at + 20, created_at + 5, created_at + 10, created_at + 20
FROM (SELECT number, CAST(:last AS BIGINT) - (:count - number) * 80 AS created_at FROM counted) AS finished
"""


def drain_100(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    drained = drain(bench, peer, jobs=bench.jobs_for(peer), concurrency=100)
    return {RATE.key: drained.rate, WORKER_CPU.key: drained.worker_cpu, SERVER_CPU.key: drained.server_cpu}


def add_many(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    # Added in bulk, the jobs of a slow worker are no slower than others.
    jobs = bench.sizes.jobs
    seconds = bench.run(peer, "add_many", jobs=jobs, chunk=1000).seconds
    _check_added(bench, peer, jobs + 1)
    return {IN_BULK.key: jobs / seconds}


def add_single(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    one = min(AWAITED, bench.sizes.awaited_jobs)
    in_turn = bench.run(peer, "add_one", jobs=one)
    many = max(1000, bench.sizes.jobs // 4)
    at_once = bench.run(peer, "add_concurrent", jobs=many, chunk=1000)
    _check_added(bench, peer, one + many + 2)
    return {
        ONE.key: statistics.median(in_turn.delays) * 1000,
        IN_TURN.key: one / in_turn.seconds,
        AT_ONCE.key: many / at_once.seconds,
    }


def latency(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    p50, p99 = delays_ms(bench, peer)
    return {P50.key: p50, P99.key: p99}


def start(bench: Bench, peer: Peer) -> Values:
    """A process that measures adding has imported, connected and added a job when it is ready."""
    _install(bench, peer)
    began = time.perf_counter()
    with bench.started(peer, "add_one", jobs=1) as process:
        milliseconds = (time.perf_counter() - began) * 1000
        process.run()
    return {START.key: milliseconds}


def memory(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    jobs = bench.sizes.grown
    bench.run(peer, "fill", jobs=jobs)
    early, late = bench.run(peer, "grow", jobs=jobs, concurrency=100).sizes
    check_drained(bench, peer, jobs)
    return {EARLY.key: early / 2**20, LATE.key: late / 2**20}


def long_ledger(bench: Bench, peer: Peer) -> Values:
    _install(bench, peer)
    fresh = _rate(bench, peer)
    an_hour_ago = round((time.time() - 3600) * 1000)
    bench.database.write(FINISHED, count=bench.sizes.finished, last=an_hour_ago, payload=PAYLOAD_TEXT)
    # Each burst of jobs meets a ledger that was at rest, as after a quiet night: what the database knows of it is that nothing is open.
    return {FRESH.key: fresh, LONG.key: _rate(bench, peer, at_rest=True)}


def _rate(bench: Bench, peer: Peer, *, at_rest: bool = False) -> float:
    rates: list[float] = []
    for _ in range(REPEATS):
        if at_rest:
            bench.database.settle("taurine_job")
        rates.append(drain(bench, peer, jobs=DRAINED, concurrency=100).rate)
        bench.server.flush()
    return statistics.median(rates)


def _install(bench: Bench, peer: Peer) -> None:
    if peer.database is not None:
        bench.run(peer, "install")


def _check_added(bench: Bench, peer: Peer, jobs: int) -> None:
    """What was said to be added is there: on the server of queues, and in SQL. Raises PeerFailed."""
    there: list[int] = []
    if peer.on_bullmq_wire:
        there.append(bench.server.length("bull:bench:wait"))
    if peer.database is not None:
        there.append(bench.database.count(peer.open))
    if any(number != jobs for number in there):
        raise PeerFailed(f"{peer.title} reported {jobs} jobs as added, and there are {there}")


FIGURES = (
    Figure(KEY, "drain with records", (RATE, WORKER_CPU, SERVER_CPU), drain_100, "drain", ALL),
    Figure(KEY, "bulk add with records", (IN_BULK,), add_many, "add_many", ALL),
    Figure(KEY, "adds with records", (ONE, IN_TURN, AT_ONCE), add_single, "add_concurrent", ALL),
    Figure(KEY, "enqueue to handler start with records", (P50, P99), latency, "pace", ALL, repeated=False),
    Figure(KEY, START.title, (START,), start, "add_one", IN_SQL | {TAURINE.key}),
    Figure(KEY, "memory of a worker", (EARLY, LATE), memory, "drain", OURS, repeated=False),
    Figure(KEY, "drain with a long ledger", (FRESH, LONG), long_ledger, "drain", OURS, repeated=False),
)
