"""The health port of a worker: `/health/live`, `/health/ready` and `/metrics`, answered by a thread of its own, also
while the event loop is stuck.

It is a small HTTP server of the standard library, for probes and scrapers, and not for the open network: it answers GET
alone, a few requests at a time, each in bounded time.
It has no names and no details but in `/metrics`, which is for this machine, and for those elsewhere who show the token.

With worker processes the parent has the port. Each process has such a server too, on a unix socket in a folder of the
parent's, and the parent asks them all.
"""

from __future__ import annotations

import asyncio
import hmac
import http.client
import json
import logging
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import ThreadingMixIn
from threading import BoundedSemaphore, Thread
from typing import Any, Protocol, TypeVar

from taurine.errors import InvalidOption
from taurine.heartbeat import Heartbeat
from taurine.ids import unique_id
from taurine.jobs.operations.readiness import Readiness
from taurine.observe.health import Liveness
from taurine.observe.prometheus import CONTENT_TYPE, Exposition, Observed, exposition_of, heartbeat_families

__all__ = ["ProcessesHealth", "WorkerHealth"]

log = logging.getLogger("taurine")

ResultT = TypeVar("ResultT")

_AT_ONCE = 16
"""Requests that are answered at once; what is more is hung up on."""

_REQUEST_SECONDS = 5.0
"""Seconds that a client may be silent."""

_LOOP_SECONDS = 3.0
"""Seconds that the event loop has for an answer; a look has two for each server."""

_CHILD_SECONDS = 1.0
"""Seconds that a worker process has to say that it lives: its thread has nothing else to do."""


class _Application(Observed, Protocol):
    async def readiness(self, *, within: float = 2.0) -> Readiness: ...


class _Worker(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def heartbeats(self) -> list[Heartbeat]: ...
    @property
    def is_ready(self) -> bool: ...


class _Answers(Protocol):
    """What the server answers with; called in its threads."""

    def live(self) -> bool: ...
    def ready(self) -> bool: ...
    def metrics(self) -> bytes: ...


class _OnLoop:
    """Asking the event loop from a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def ask(self, call: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Raises TimeoutError where the loop has no answer in time, or runs no longer."""

        async def asked() -> ResultT:
            return await call()

        coroutine = asked()
        try:
            answer = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise TimeoutError("the event loop is closed") from None
        try:
            return answer.result(_LOOP_SECONDS)
        except TimeoutError:
            answer.cancel()
            raise


class WorkerHealth:
    """The health port of a worker in this process.

    address: host and port, or the path of a unix socket. token: see `WorkerOptions`.

    `start` raises InvalidOption for an address that cannot be had.
    """

    def __init__(self, app: _Application, address: tuple[str, int] | Path, *, token: str | None) -> None:
        self._app = app
        self._address = address
        self._token = token
        self._server: _Serving | None = None

    @property
    def port(self) -> int | None:
        """The port that it has; None while it has none."""
        return None if self._server is None else self._server.port

    async def start(self, worker: _Worker) -> None:
        """Answer for this worker."""
        self._server = _Serving(_OfWorker(self._app, worker, _OnLoop()), self._address, self._token)

    async def stop(self) -> None:
        """Answer no more. Harmless when repeated."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.close)


class _OfWorker:
    def __init__(self, app: _Application, worker: _Worker, loop: _OnLoop) -> None:
        self._app = app
        self._worker = worker
        self._loop = loop
        self._exposition = _exposition_of(app)
        self.live = Liveness(f"worker {worker.name}", lambda: worker.heartbeats).look

    def ready(self) -> bool:
        try:
            return self._loop.ask(self._app.readiness).runs and self._worker.is_ready
        except TimeoutError:
            return False

    def metrics(self) -> bytes:
        # What is known without the event loop comes in any case.
        own = exposition_of(heartbeat_families(self._worker.heartbeats))
        return own + _system_metrics(self._exposition, self._loop)


class ProcessesHealth:
    """The health port of worker processes, which their parent has. Arguments and errors as with WorkerHealth."""

    def __init__(self, app: _Application, address: tuple[str, int], *, token: str | None) -> None:
        self._app = app
        self._address = address
        self._token = token
        self._server: _Serving | None = None
        self.folder = str(Path(tempfile.gettempdir()) / f"taurine-{unique_id()[:12]}")
        """Where the processes have their sockets; there while it runs, and for this account alone."""

    @property
    def port(self) -> int | None:
        """The port that it has; None while it has none."""
        return None if self._server is None else self._server.port

    async def start(self, pids: Callable[[], Mapping[int, int]]) -> None:
        """Answer for these processes. pids: those that run, by their number."""
        await asyncio.to_thread(Path(self.folder).mkdir, 0o700)
        try:
            answers = _OfProcesses(self._app, pids, self.folder, _OnLoop())
            self._server = _Serving(answers, self._address, self._token)
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    async def stop(self) -> None:
        """Answer no more. Harmless when repeated."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.close)
            shutil.rmtree(self.folder, ignore_errors=True)


class _OfProcesses:
    def __init__(self, app: _Application, pids: Callable[[], Mapping[int, int]], folder: str, loop: _OnLoop) -> None:
        self._pids = pids
        self._folder = Path(folder)
        self._loop = loop
        self._exposition = _exposition_of(app)

    def live(self) -> bool:
        # One that starts has no socket yet, and whether it ever will is the supervisor's affair.
        answers = self._ask_all("/health/live", _CHILD_SECONDS)
        return all(answer in (200, None) for answer in answers)

    def ready(self) -> bool:
        answers = self._ask_all("/health/ready", _LOOP_SECONDS + _CHILD_SECONDS)
        return bool(answers) and all(answer == 200 for answer in answers)

    def metrics(self) -> bytes:
        return _system_metrics(self._exposition, self._loop)

    def _ask_all(self, path: str, within: float) -> list[int | None]:
        sockets = [self._folder / f"{number}.sock" for number in list(self._pids())]
        if not sockets:
            return []
        with ThreadPoolExecutor(len(sockets)) as threads:
            return list(threads.map(partial(_status_of, path=path, within=within), sockets))


def _status_of(place: Path, *, path: str, within: float) -> int | None:
    """The status of an answer; None where nobody has made the socket yet, 0 where no answer came."""
    connection = _UnixConnection(place, within)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except FileNotFoundError:
        return None
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, place: Path, within: float) -> None:
        super().__init__("localhost", timeout=within)
        self._place = place

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._place))


def _exposition_of(app: _Application) -> Exposition | None:
    """None without the extra `metrics`: a worker's health does not need it."""
    try:
        return Exposition(app)
    except InvalidOption:
        return None


def _system_metrics(exposition: Exposition | None, loop: _OnLoop) -> bytes:
    if exposition is None:
        return b""
    try:
        return loop.ask(exposition.text)
    except TimeoutError:
        return b'# TYPE taurine_up gauge\ntaurine_up{store="ledger"} 0.0\ntaurine_up{store="store"} 0.0\n'


# The server ---------------------------------------------------------------------------------------------------------------------------


class _Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = _AT_ONCE

    def __init__(self, address: tuple[str, int] | Path, answers: _Answers, token: str | None) -> None:
        self.answers = answers
        self.token = token
        self._free = BoundedSemaphore(_AT_ONCE)
        if isinstance(address, Path):
            self.address_family = socket.AF_UNIX
        elif ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.is_local = isinstance(address, Path) or _is_loopback(address[0])
        super().__init__(str(address) if isinstance(address, Path) else address, _Handler)  # pyright: ignore[reportArgumentType] - of a unix socket it is a path

    def server_bind(self) -> None:
        if self.address_family != socket.AF_UNIX:
            # Not that of HTTPServer, which asks a name server who this machine is.
            self.allow_reuse_address = True
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request to the health port broke off", exc_info=True)


class _Serving:
    """A server that answers in the background. Raises InvalidOption for an address that cannot be had."""

    def __init__(self, answers: _Answers, address: tuple[str, int] | Path, token: str | None) -> None:
        if isinstance(address, Path):
            address.unlink(missing_ok=True)  # of a process of the same number that was killed
        try:
            self._server = _Server(address, answers, token)
        except (OSError, OverflowError) as error:
            shown = address if isinstance(address, Path) else f"{address[0]}:{address[1]}"
            raise InvalidOption(
                f"the health port cannot be opened at {shown}: {error.strerror if isinstance(error, OSError) else error}; name another one, or 0 for any that is free"
            ) from error
        self.port = None if isinstance(address, Path) else int(self._server.server_address[1])
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="taurine health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - it is always one
    protocol_version = "HTTP/1.1"
    server_version = "taurine"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        answers = self.server.answers
        if self.server.is_local and not self._is_called_locally():
            self._send_word(421, "misdirected")
        elif path == "/health/live":
            self._send_health("ok" if (well := answers.live()) else "stuck", well=well)
        elif path == "/health/ready":
            self._send_health("ready" if (well := answers.ready()) else "unready", well=well)
        elif path == "/metrics":
            self._send_metrics()
        else:
            self._send_word(404, "not found")

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug("health port: " + format, *args)

    def _is_called_locally(self) -> bool:
        """A page of a stranger that has made a name of its own point here is told from its Host."""
        host = self.headers.get("Host", "localhost").rpartition("@")[2]
        name = host[: host.index("]") + 1].strip("[]") if host.startswith("[") else host.partition(":")[0]
        return name.lower() == "localhost" or _is_loopback(name)

    def _send_health(self, status: str, *, well: bool) -> None:
        self._send(200 if well else 503, json.dumps({"status": status, "healthy": well}).encode(), "application/json")

    def _send_word(self, status: int, word: str) -> None:
        self._send(status, word.encode(), "text/plain; charset=utf-8")

    def _send_metrics(self) -> None:
        if not self._may_see():
            self._send(401, b"unauthenticated", "text/plain; charset=utf-8", {"WWW-Authenticate": "Bearer"})
        else:
            self._send(200, self.server.answers.metrics(), CONTENT_TYPE)

    def _may_see(self) -> bool:
        token = self.server.token
        if token is None:
            return self.server.is_local
        shown = self.headers.get("Authorization", "")
        return hmac.compare_digest(shown.encode("utf-8", "replace"), f"Bearer {token}".encode())

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        sent = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Connection": "close",
        }
        for name, value in {**sent, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.command != "HEAD":
            self.wfile.write(body)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
