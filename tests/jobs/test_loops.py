"""Event loops that are closed without `close`, as `asyncio.run` leaves them: SEED-105, SEED-108."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SCRIPT = """
    import asyncio, gc, os, threading
    from pydantic import BaseModel
    from taurine import Taurine

    class Order(BaseModel):
        id: int

    app = Taurine("shop", redis_url={redis_url!r}, database_url={database_url!r}, home={home!r}, prefix={prefix!r})
    ship = app.declare("order.ship", Order, queue="orders")

    async def once(number):
        await ship.enqueue(Order(id=number))
        await asyncio.gather(*(app.get("none") for _ in range(5)))
        return app._backend()._server

    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("taurine ledger")]

    servers = set()
    for number in range(8):
        before = threads()
        if server := asyncio.run(once(number)):
            servers.add(server.pid)
        for thread in before:  # those of the loop before this one
            thread.join(5)
        gc.collect()
        if number == 1:
            files = len(os.listdir("/proc/self/fd"))
    print("backends", len(app._backends), "threads", len(threads()), "servers", len(servers))
    # How many of its readers a loop has used is chance; six loops that left theirs would have left far more.
    print("files", "as before" if len(os.listdir("/proc/self/fd")) - files < 12 else "left open")
    left = threads()
    app.close_sync()
    for thread in left:
        thread.join(5)
    print("closed", len(app._backends), len(threads()))
"""


def run(**values: str | None) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT).format(**values)],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_closed_loops_leave_nothing_open(
    kind: str, request: pytest.FixtureRequest, redis_socket_url: str, prefix: str, tmp_path: Path
) -> None:
    """Each call of a program may have its own; what the one before has opened is let go of: threads, files, sockets."""
    database_url = f"sqlite:///{tmp_path / 'l.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    threads = 4 if kind == "sqlite" else 0  # a writer and three readers
    said = run(redis_url=redis_socket_url, database_url=database_url, home=str(tmp_path), prefix=prefix)
    assert said == [f"backends 1 threads {threads} servers 0", "files as before", "closed 0 0"]


def test_the_embedded_server_goes_on_for_the_next_loop(prefix: str, tmp_path: Path) -> None:
    """It belongs to no loop; one that ended and began with each call would cost its start each time."""
    said = run(redis_url=None, database_url=None, home=str(tmp_path), prefix=prefix)
    assert said == ["backends 1 threads 4 servers 1", "files as before", "closed 0 0"]
