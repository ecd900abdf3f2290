"""A stream as messages of a WebSocket: JSON texts with `event`, `id` and `data`, the same as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.websockets import WebSocket, WebSocketDisconnect

from taurine.http.access.caller import Caller
from taurine.http.live.messages import messages
from taurine.http.live.streams import Streams
from taurine.http.representations import Shown
from taurine.jobs.changes.subscription import Subscription

__all__ = ["serve_socket"]

log = logging.getLogger("taurine.http")

_OVER, _AGAIN = 1000, 1013
"""Close codes (RFC 6455, and 1013 "try again later" of its registry)."""


async def serve_socket(
    socket: WebSocket,
    opened: AbstractAsyncContextManager[Subscription],
    *,
    caller: Caller,
    shown: Shown,
    streams: Streams,
    allowed: Callable[[], Awaitable[object]],
) -> None:
    """Accept the socket and tell changes until there are no more, or nobody listens. What the client says is passed over."""
    await socket.accept()
    async with opened as changes, streams.holding(caller, changes):
        listening = asyncio.create_task(_until_gone(socket))
        telling = asyncio.create_task(_tell(socket, changes, caller, shown, streams, allowed=allowed))
        try:
            await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, telling):
                task.cancel()
            await asyncio.wait({listening, telling})


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _tell(
    socket: WebSocket,
    changes: Subscription,
    caller: Caller,
    shown: Shown,
    streams: Streams,
    *,
    allowed: Callable[[], Awaitable[object]],
) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        try:
            async for message in messages(changes, shown, ping_seconds=streams.ping_seconds, allowed=allowed):
                if message.event == "ping":
                    continue  # the server's own pings are a sign of life
                async with asyncio.timeout(streams.send_seconds):
                    await socket.send_text(json.dumps(message._asdict(), ensure_ascii=False, separators=(",", ":")))
                if message.event == "dropped":
                    await socket.close(_AGAIN, "dropped")
                    return
            await socket.close(_OVER)
        except TimeoutError:
            log.warning("a stream of %r is dropped: nothing was read for %g s", caller.name, streams.send_seconds)
            await socket.close(_AGAIN, "nothing was read")
