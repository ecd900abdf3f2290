"""What a worker costs while there is nothing to do, on one queue and on twenty."""

from __future__ import annotations

from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import BULLMQ, TAURINE, Peer
from benchmarks.results import Requirement, Row, Values

QUEUES = 20

COMMANDS_1 = Row("idle_commands_1", "idle on 1 queue: commands", "1/s", 2)
COMMANDS_20 = Row(
    "idle_commands_20",
    f"idle on {QUEUES} queues: commands",
    "1/s",
    2,
    (Requirement("≤", 1.0, baseline="own", own_row=COMMANDS_1.key),),
)
CPU_1 = Row("idle_cpu_1", "idle on 1 queue: worker CPU", "%", 2, (Requirement("≤", 1.0, baseline="absolute"),))
CPU_20 = Row(
    "idle_cpu_20", f"idle on {QUEUES} queues: worker CPU", "%", 2, (Requirement("≤", 1.0, baseline="absolute"),)
)


def idle(bench: Bench, peer: Peer) -> Values:
    commands_1, cpu_1 = _watch(bench, peer, queues=1)
    commands_20, cpu_20 = _watch(bench, peer, queues=QUEUES)
    return {COMMANDS_1.key: commands_1, COMMANDS_20.key: commands_20, CPU_1.key: cpu_1, CPU_20.key: cpu_20}


def _watch(bench: Bench, peer: Peer, *, queues: int) -> tuple[float, float]:
    """Commands a second, and CPU in percent of one core."""
    window = bench.sizes.window_seconds
    with (
        bench.started(peer, "idle", queues=queues, seconds=window) as worker,
        bench.server.commands_counted() as commands,
    ):
        watched = worker.run()
    return commands.total / watched.seconds, watched.cpu_seconds / watched.seconds * 100


FIGURES = (
    Figure(
        "idle",
        "idle worker",
        (COMMANDS_1, COMMANDS_20, CPU_1, CPU_20),
        idle,
        "idle",
        frozenset({BULLMQ.key, TAURINE.key}),
        repeated=False,
    ),
)
