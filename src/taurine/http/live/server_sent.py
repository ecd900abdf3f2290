"""A stream as server-sent events (HTML standard, section 9.2).

FastAPI's own stream of events would start a task and a queue for each client; a thousand clients are a thousand generators here, which wake up when there is something to say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Send

from taurine.http.access.caller import Caller
from taurine.http.live.messages import Message, messages
from taurine.http.live.streams import Streams
from taurine.http.representations import Shown
from taurine.jobs.changes.subscription import Subscription

__all__ = ["ServerSentEvents"]

log = logging.getLogger("taurine.http")

_RETRY_MS = 2000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ServerSentEvents(StreamingResponse):
    """The answer that goes on. A client that reads nothing for `send_seconds` of the streams is dropped."""

    def __init__(
        self,
        opened: AbstractAsyncContextManager[Subscription],
        *,
        caller: Caller,
        shown: Shown,
        streams: Streams,
        allowed: Callable[[], Awaitable[object]],
    ) -> None:
        self._events = _encoded(opened, caller, shown, streams, allowed)
        super().__init__(self._events, media_type="text/event-stream", headers=_HEADERS)
        self._caller = caller
        self._send_seconds = streams.send_seconds

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: AsgiMessage) -> None:
            async with asyncio.timeout(self._send_seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning("a stream of %r is dropped: nothing was read for %g s", self._caller.name, self._send_seconds)
        finally:
            await self._events.aclose()


async def _encoded(
    opened: AbstractAsyncContextManager[Subscription],
    caller: Caller,
    shown: Shown,
    streams: Streams,
    allowed: Callable[[], Awaitable[object]],
) -> AsyncGenerator[bytes]:
    async with opened as changes, streams.holding(caller, changes):
        yield format_sse_event(comment="changes follow", retry=_RETRY_MS)
        async for message in messages(changes, shown, ping_seconds=streams.ping_seconds, allowed=allowed):
            yield _event(message)


def _event(message: Message) -> bytes:
    if message.event == "ping":
        return format_sse_event(comment="ping")
    data = json.dumps(message.data, ensure_ascii=False, separators=(",", ":"))
    return format_sse_event(event=message.event, id=message.id, data_str=data)
