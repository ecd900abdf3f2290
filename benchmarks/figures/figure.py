"""What a figure is, and what it is given to measure with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import process

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peers import Peer
    from benchmarks.process import Measured
    from benchmarks.results import Row, Values
    from benchmarks.server import Server


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    jobs: of a drain and of the adds, for the peers with a full share. awaited_jobs: added one after another.
    paced_jobs: for the latency, after warmup_jobs that are not counted. backlog: jobs that wait in the backlog figure.
    window_seconds: how long an idle worker is watched.
    """

    jobs: int = 20_000
    awaited_jobs: int = 5_000
    paced_jobs: int = 500
    warmup_jobs: int = 20
    backlog: int = 1_000_000
    window_seconds: float = 20.0


QUICK = Sizes(jobs=4_000, awaited_jobs=500, paced_jobs=100, backlog=100_000, window_seconds=5.0)


@dataclass(frozen=True)
class Bench:
    """The server and the sizes of this run."""

    server: Server
    sizes: Sizes

    def jobs_for(self, peer: Peer) -> int:
        return max(500, int(self.sizes.jobs * peer.jobs_share))

    def run(self, peer: Peer, action: str, **options: object) -> Measured:
        return process.run(peer.command, action, self.server.url, **options)


@dataclass(frozen=True)
class Figure:
    """One thing that is measured of every peer that can do it, on an empty server.

    key: its name for --only; figures may share one. action: what a peer must have a call for.
    peers: the only ones it is measured of; empty: all. repeated: False where one round says enough.
    """

    key: str
    title: str
    rows: tuple[Row, ...]
    measure: Callable[[Bench, Peer], Values]
    action: str
    peers: frozenset[str] = frozenset()
    repeated: bool = True

    def applies_to(self, peer: Peer) -> bool:
        return peer.can(self.action) and (not self.peers or peer.key in self.peers)
