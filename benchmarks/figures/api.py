"""What a job costs behind an HTTP request: Taurine's API, which has recorded a job before it answers, beside a FastAPI
application that answers alone.
"""

from __future__ import annotations

import socket
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures.drain import drain
from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import FASTAPI_ALONE, TAURINE_API, TAURINE_SQLITE
from benchmarks.process import PeerFailed
from benchmarks.results import OWN, Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

CLIENTS = 50

RATE = Row(
    "api_post",
    f"POST /v1/jobs/{{type}}, {CLIENTS} clients",
    "1/s",
    required=(Requirement("≥", 0.5, f"peer:{FASTAPI_ALONE.key}", of=TAURINE_API.key),),
)


STREAMS = 1000

QUIET = Row("api_no_streams", "drain at concurrency 100, no open streams", "jobs/s")
STREAMED = Row(
    "api_streams",
    f"drain at concurrency 100, {STREAMS:,} open streams",
    "jobs/s",
    required=(Requirement("≥", 0.95, OWN, QUIET.key, of=TAURINE_API.key),),
)

REPEATS = 5


def streams(bench: Bench, peer: Peer) -> Values:
    """A worker beside an API whose clients wait for news of ended jobs, and beside the same API without them, in turns."""
    bench.run(peer, "install")
    drain(bench, TAURINE_SQLITE, jobs=STREAMS, concurrency=100)  # the jobs that are followed
    rates: dict[str, list[float]] = {QUIET.key: [], STREAMED.key: []}
    with tempfile.TemporaryDirectory() as folder:
        where = {"port": _free_port(), "key-file": str(Path(folder) / "key")}
        with bench.started(peer, "serve", **where):
            for _ in range(REPEATS):
                rates[QUIET.key].append(_rate(bench))
                with bench.started(peer, "follow", clients=STREAMS, **where):
                    rates[STREAMED.key].append(_rate(bench))
    return {key: statistics.median(measured) for key, measured in rates.items()}


def _rate(bench: Bench) -> float:
    return drain(bench, TAURINE_SQLITE, jobs=bench.sizes.jobs, concurrency=100).rate


def post(bench: Bench, peer: Peer) -> Values:
    if peer.database is not None:
        bench.run(peer, "install")
    requests = max(500, bench.sizes.jobs // 2)
    with tempfile.TemporaryDirectory() as folder:
        where = {"port": _free_port(), "key-file": str(Path(folder) / "key")}
        with bench.started(peer, "serve", **where):
            seconds = bench.run(peer, "post", jobs=requests, clients=CLIENTS, **where).seconds
    if peer.database is not None:
        # The first of each client is not counted, and recorded all the same.
        expected = requests // CLIENTS * CLIENTS + CLIENTS
        if (recorded := bench.database.count("SELECT count(*) FROM taurine_job")) != expected:
            raise PeerFailed(f"expected {expected:,} records, found {recorded:,}")
    return {RATE.key: requests / seconds}


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


FIGURES = (
    Figure("api", RATE.title, (RATE,), post, "serve", frozenset({TAURINE_API.key, FASTAPI_ALONE.key})),
    Figure("api", "open streams", (QUIET, STREAMED), streams, "serve", frozenset({TAURINE_API.key}), repeated=False),
)
