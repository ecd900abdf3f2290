"""The one Valkey server that every peer is measured on, and the observer that reads its counters."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, cast

from redis import Redis
from redis.exceptions import ConnectionError as ServerNotReady

from taurine.embedded.allocator import mimalloc_for, with_allocator
from taurine.embedded.binary import find_server

if TYPE_CHECKING:
    from collections.abc import Generator

    from redis.client import Monitor

START_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A running server. `url` is given to every peer; the observer's own commands are kept out of the figures."""

    port: int
    observer: Redis

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def version(self) -> str:
        info = self.observer.info("server")
        if "valkey_version" in info:
            return f"Valkey {info['valkey_version']}"
        return f"Redis {info['redis_version']}"

    def flush(self) -> None:
        """Remove every key and every cached script, before the answer comes back."""
        self.observer.flushall(asynchronous=False)
        self.observer.script_flush("SYNC")

    def cpu_seconds(self) -> float:
        """CPU time of the server process so far: user and system, all threads."""
        info = self.observer.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def used_bytes(self) -> int:
        """Memory that the server has allocated, without what it holds for connections."""
        info = self.observer.info("memory")
        return int(info["used_memory"]) - int(info["mem_clients_normal"])

    def length(self, key: str) -> int:
        """Elements of a list or sorted set; 0 when there is no such key."""
        kind = self.observer.type(key)
        if kind == b"list":
            return int(self.observer.llen(key))
        return int(self.observer.zcard(key))

    @contextmanager
    def commands_counted(self) -> Generator[CommandCount]:
        """Count the commands that clients send inside the block. Commands run by scripts are not counted."""
        count = CommandCount()
        # Without a time limit: an idle server has nothing to tell for many seconds.
        with Redis(port=self.port, socket_timeout=None).monitor() as monitor:
            listener = Thread(target=count.listen_to, args=(monitor,), daemon=True)
            listener.start()
            yield count
            self.observer.echo(CommandCount.END)
            listener.join()
        if not count.complete:
            raise RuntimeError("MONITOR ended before the block did: commands are missing from the count")


class CommandCount:
    """Commands seen by MONITOR until the END mark."""

    END = "benchmark-end"

    def __init__(self) -> None:
        self.total = 0
        self.complete = False

    def listen_to(self, monitor: Monitor) -> None:
        for entry in monitor.listen():
            seen = cast("dict[str, str]", entry)
            if self.END in seen["command"]:
                self.complete = True
                return
            if seen["client_type"] != "lua":
                self.total += 1


@contextmanager
def running_server() -> Generator[Server]:
    """A server on a free loopback port, without persistence; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="taurine-bench-") as directory:
        port = _free_port()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no"]
        # As the embedded server is started, so that the figures are those of the default.
        program = find_server()
        environment = with_allocator(os.environ, preload=mimalloc_for(program))
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, env=environment)
        try:
            observer = Redis(port=port)
            _wait_until_ready(observer)
            yield Server(port, observer)
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(observer: Redis) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while True:
        try:
            observer.ping()
            return
        except ServerNotReady:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
