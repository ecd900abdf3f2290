"""Answers that nobody reads: who asks, and then reads nothing, holds what is to be sent for `seconds`, and no longer.

A server takes the whole of an answer at once, keeps what the socket does not, and closes a connection only when that is
sent. So two look after it. The layer gives a large body in pieces, of which each must be taken in time: on any server,
what it holds is then no more than its own buffer and a piece. And where Taurine serves, what stays in that buffer is
looked at, and dropped with its connection: of plain answers, of streams, and of connections that are closed already and
cannot end.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["PIECE", "Buffers", "Connected", "Sending"]

log = logging.getLogger("taurine.http")

PIECE = 64 * 1024
"""Bytes of a body that are given to the server at once: as many as its buffer has before it lets us wait."""

_LOOKS = 4
"""Looks at the buffers in the time that a client has."""


class _Unread(Exception):
    """A piece was not taken in time."""


class Sending:
    """The ASGI layer that bounds how long a large answer may take without progress. seconds: for each 64 KiB.

    It costs a small answer one comparison: those are in the socket, or in the server's buffer, at once.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_in_pieces(message: Message) -> None:
            if len(message.get("body", b"")) <= PIECE:
                await send(message)
            else:
                await self._send_large(message, send)

        try:
            await self._app(scope, receive, send_in_pieces)
        except _Unread:
            # The server closes what has no end.
            log.warning("an answer is dropped: nothing was read for %g s", self._seconds)

    async def _send_large(self, message: Message, send: Send) -> None:
        body = memoryview(message["body"])
        for start in range(0, len(body), PIECE):
            more = start + PIECE < len(body) or message.get("more_body", False)
            piece = {**message, "body": bytes(body[start : start + PIECE]), "more_body": more}
            try:
                async with asyncio.timeout(self._seconds):
                    await send(piece)
            except TimeoutError:
                raise _Unread from None


class Connected(Protocol):
    """A connection, as a server keeps it."""

    @property
    def transport(self) -> asyncio.Transport: ...


class Buffers:
    """What a server's connections have not got rid of.

    seconds: after which one that gets rid of nothing is dropped. monotonic: the time in seconds. Default: the
    machine's.
    """

    def __init__(self, *, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._next = 0.0
        self._held: dict[Connected, tuple[int, float]] = {}

    def look(self, connections: Iterable[Connected]) -> None:
        """Drop those whose time is over; to be called again and again, often enough."""
        now = self._monotonic()
        if now < self._next:
            return
        self._next = now + self._seconds / _LOOKS
        held, before = dict[Connected, tuple[int, float]](), self._held
        for connection in connections:
            transport = connection.transport
            # Nothing is added to what is full or closing, so that there is progress where it has become less.
            if not (left := transport.get_write_buffer_size()) or not _is_stopped(transport, left):
                continue
            size, since = before.get(connection, (left + 1, now))
            if left < size:
                since = now
            elif now - since >= self._seconds:
                log.warning("a connection is dropped: of %d bytes nothing was read for %g s", left, self._seconds)
                transport.abort()
                continue
            held[connection] = (left, since)
        self._held = held


def _is_stopped(transport: asyncio.Transport, left: int) -> bool:
    return transport.is_closing() or left > transport.get_write_buffer_limits()[1]
