"""Serving an API in this process, with uvicorn: `taurine serve`, `taurine dev` and the demo stand on it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import shlex
import signal
import socket
from collections.abc import Callable, Generator, Iterable
from typing import cast
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI

from taurine.app import Taurine
from taurine.errors import InvalidOption
from taurine.http.access.loopback import is_loopback
from taurine.http.api import Api
from taurine.http.connections import Connection
from taurine.http.examples import example_of
from taurine.http.unread import Buffers, Connected

__all__ = ["curl_line", "listen", "serve", "url_of"]

_BACKLOG = 2048

_READ_SECONDS = 30.0
"""For a client to read, of an application that does not say."""

_MOST_FROM_A_SOCKET = 1024
"""Bytes of a message on a WebSocket: clients have nothing to say there."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound, and heard as soon as it is served.

    port: 0 for any that is free. Raises InvalidOption for an address that cannot be had.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InvalidOption(f"cannot listen on {host!r:.200}: {error}") from None
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except (OSError, OverflowError) as error:
        made.close()
        raise InvalidOption(
            f"cannot listen on {host!r:.200}, port {port}: {error}; name another with --port, or 0 for any that is free"
        ) from None
    return made


def url_of(listening: socket.socket) -> str:
    """Where a client on this machine finds it."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    api: FastAPI,
    listening: socket.socket,
    *,
    ready: Callable[[], None] | None = None,
    grace: float = 10.0,
    handle_signals: bool = False,
    lifespan: bool = True,
) -> None:
    """Serve until it is cancelled; with handle_signals also until SIGINT or SIGTERM, after which it returns.

    Then nothing more is accepted, requests that are under way have `grace` seconds, and the connections are closed; a
    second signal ends that. ready: called once it answers.
    lifespan: open the application before, and close it afterwards. Default: True; False where others on this loop use
    it.
    """
    ours: Api | None = getattr(api.state, "api", None)  # there may be other applications in front of it
    config = uvicorn.Config(
        api,
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        lifespan="on" if lifespan else "off",
        timeout_graceful_shutdown=max(1, round(grace)),
        http=Connection,
        ws="websockets-sansio",
        ws_max_size=_MOST_FROM_A_SOCKET,
    )
    server = _Server(config, ready, Buffers(seconds=_READ_SECONDS if ours is None else ours.streams.send_seconds))

    def stop() -> None:
        # Streams would hold it up for all of the grace; their clients come back to another process.
        if ours is not None:
            ours.streams.end()
        server.stop()

    if handle_signals:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(serving)
    except asyncio.CancelledError:
        stop()
        await asyncio.wait({serving})
        raise
    finally:
        if handle_signals:
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().remove_signal_handler(number)


class _Server(uvicorn.Server):
    """Leaves signals to the caller: uvicorn's own would kill the process once it has ended well."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None] | None, buffers: Buffers) -> None:
        super().__init__(config)
        self._ready = ready
        self._buffers = buffers

    def stop(self) -> None:
        """End; at once when it is said twice."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn, ten times a second."""
        self._buffers.look(cast("Iterable[Connected]", self.server_state.connections))
        return await super().on_tick(counter)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # What was imported stays; a collector that walks over all of it again and again makes each request a tenth slower.
        gc.collect()
        gc.freeze()
        if self.started and self._ready is not None:
            self._ready()


def curl_line(app: Taurine, url: str, *, credentials: bool, only: str | None = None) -> str:
    """A command that works as it stands: it enqueues a job of the first type whose payload can be guessed, else it
    counts jobs.

    credentials: a key is needed, in $TAURINE_KEY. only: the one type that is looked at. Default: all.
    """
    words = ["curl", "-s"]
    key = ' -H "Authorization: Bearer $TAURINE_KEY"' if credentials else ""
    for job_type in app.catalog:
        if only in (None, job_type.name) and (example := example_of(job_type)) is not None:
            body = json.dumps({"payload": example[0]})
            words += [
                f"{url}/v1/jobs/{quote(job_type.name, safe='')}",
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
            ]
            return shlex.join(words) + key
    return shlex.join([*words, f"{url}/v1/counts"]) + key


def needs_credentials(host: str, *, configured: bool) -> bool:
    """Whether a caller must say who it is: not from this machine alone, as long as nobody has said who may."""
    return configured or not is_loopback(host)
