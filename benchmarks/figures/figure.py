"""What a figure is, and what it is given to measure with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks import process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from benchmarks.database import PeerDatabase
    from benchmarks.peers import Peer
    from benchmarks.process import Measured, PeerProcess
    from benchmarks.results import Row, Values
    from benchmarks.server import Server


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    jobs: of a drain and of the adds, for the peers with a full share. awaited_jobs: added one after another.
    paced_jobs: for the latency, after warmup_jobs that are not counted. backlog: jobs that wait in the backlog figure.
    window_seconds: how long an idle worker is watched. finished: records of ended jobs in a long ledger. grown: jobs
    that a worker's memory is watched over.
    """

    jobs: int = 20_000
    awaited_jobs: int = 5_000
    paced_jobs: int = 500
    warmup_jobs: int = 20
    backlog: int = 1_000_000
    window_seconds: float = 20.0
    finished: int = 1_000_000
    grown: int = 200_000


QUICK = Sizes(
    jobs=4_000,
    awaited_jobs=500,
    paced_jobs=100,
    backlog=100_000,
    window_seconds=5.0,
    finished=100_000,
    grown=20_000,
)


@dataclass(frozen=True)
class Bench:
    """What a figure of one peer is measured on: the server, the peer's database, the sizes of this run."""

    server: Server
    database: PeerDatabase
    sizes: Sizes

    def jobs_for(self, peer: Peer) -> int:
        return max(500, int(self.sizes.jobs * peer.jobs_share))

    def run(self, peer: Peer, action: str, **options: object) -> Measured:
        """Let a process of the peer do an action, and wait for its end."""
        return process.run(peer.command, action, self.server.url, **self._where(), **options)

    def started(self, peer: Peer, action: str, **options: object) -> AbstractContextManager[PeerProcess]:
        """A process of the peer that is ready for an action; it is ended when the block is left."""
        return process.started(peer.command, action, self.server.url, **self._where(), **options)

    def _where(self) -> Mapping[str, str]:
        return {"database": self.database.url} if self.database.url else {}


@dataclass(frozen=True)
class Figure:
    """One thing that is measured of every peer that can do it, on an empty server and in an empty database.

    key: its name for --only; figures may share one. action: what a peer must have a call for.
    peers: the only ones it is measured of; empty: all that keep nothing in SQL. repeated: False where one round says
    enough.
    """

    key: str
    title: str
    rows: tuple[Row, ...]
    measure: Callable[[Bench, Peer], Values]
    action: str
    peers: frozenset[str] = frozenset()
    repeated: bool = True

    def applies_to(self, peer: Peer) -> bool:
        chosen = peer.key in self.peers if self.peers else peer.database is None
        return chosen and peer.can(self.action)

    def rounds_of(self, peer: Peer, rounds: int) -> int:
        """How often it is measured: once where no requirement is about the peer, for the numbers are there to be looked
        at only.
        """
        concerned = {key for row in self.rows for bound in row.required for key in (bound.of, bound.baseline_peer)}
        return rounds if self.repeated and peer.key in concerned else 1
