"""What a job costs behind an HTTP request: Taurine's API, which has recorded a job before it answers, beside a FastAPI application that answers alone."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures.figure import Bench, Figure
from benchmarks.peers import FASTAPI_ALONE, TAURINE_API
from benchmarks.process import PeerFailed
from benchmarks.results import Requirement, Row, Values

if TYPE_CHECKING:
    from benchmarks.peers import Peer

CLIENTS = 50

RATE = Row(
    "api_post",
    f"POST /v1/jobs/{{type}}, {CLIENTS} clients",
    "1/s",
    required=(Requirement("≥", 0.5, f"peer:{FASTAPI_ALONE.key}", of=TAURINE_API.key),),
)


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


FIGURES = (Figure("api", RATE.title, (RATE,), post, "serve", frozenset({TAURINE_API.key, FASTAPI_ALONE.key})),)
