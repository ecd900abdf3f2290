"""A stream as messages of a WebSocket: JSON texts with `event`, `id` and `data`, the same as a stream of server-sent
events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextlib import AbstractAsyncContextManager, aclosing

from starlette.websockets import WebSocket, WebSocketDisconnect

from taurine.http.live.listener import Listener
from taurine.http.live.messages import messages
from taurine.http.live.streams import Streams
from taurine.jobs.changes.subscription import Subscription

__all__ = ["serve_socket"]

log = logging.getLogger("taurine.http")

_OVER, _AGAIN = 1000, 1013
"""Close codes (RFC 6455, and 1013 "try again later" of its registry)."""


async def serve_socket(
    socket: WebSocket,
    opened: AbstractAsyncContextManager[Subscription],
    *,
    listener: Listener,
    streams: Streams,
) -> None:
    """Accept the socket and tell changes until there are no more, or nobody listens.

    What the client says is passed over.

    What is refused, too many streams among it, is raised before the socket is accepted.
    """
    async with streams.holding(listener, opened) as changes:
        await socket.accept()
        listening = asyncio.create_task(_until_gone(socket))
        telling = asyncio.create_task(_tell(socket, changes, listener, streams))
        try:
            await asyncio.wait({listening, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (listening, telling):
                task.cancel()
            await asyncio.wait({listening, telling})


async def _until_gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def _tell(socket: WebSocket, changes: Subscription, listener: Listener, streams: Streams) -> None:
    async with aclosing(messages(changes, listener, streams)) as told:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            try:
                async for message in told:
                    if message.event == "ping":
                        continue  # the server's own pings are a sign of life
                    async with asyncio.timeout(streams.send_seconds):
                        await socket.send_text(json.dumps(message._asdict(), ensure_ascii=False, separators=(",", ":")))
                        if message.event == "dropped":
                            await socket.close(_AGAIN, "dropped")
                            return
                async with asyncio.timeout(streams.send_seconds):
                    await socket.close(_OVER)
            except TimeoutError:
                # It is not told so: that would wait behind what it does not read.
                log.warning(
                    "a stream of %r is dropped: nothing was read for %g s", listener.caller.name, streams.send_seconds
                )
