"""A stream as server-sent events (HTML standard, section 9.2).

FastAPI's own stream of events would start a task and a queue for each client; a thousand clients are a thousand
generators here, which wake up when there is something to say.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing

from fastapi.sse import format_sse_event
from starlette.responses import StreamingResponse
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from taurine.http.live.listener import Listener
from taurine.http.live.messages import Message, messages
from taurine.http.live.streams import Streams
from taurine.jobs.changes.subscription import Subscription

__all__ = ["ServerSentEvents"]

log = logging.getLogger("taurine.http")

_RETRY_MS = 2000
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ServerSentEvents(StreamingResponse):
    """The answer that goes on. A client that reads nothing for `send_seconds` of the streams is dropped.

    What is refused, too many streams among it, is raised before the answer begins, and answered as any error is.
    """

    def __init__(
        self,
        opened: AbstractAsyncContextManager[Subscription],
        *,
        listener: Listener,
        streams: Streams,
    ) -> None:
        super().__init__((), media_type="text/event-stream", headers=_HEADERS)
        self._opened = opened
        self._listener = listener
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        async with self._streams.holding(self._listener, self._opened) as changes:
            told = messages(changes, self._listener, self._streams)
            async with aclosing(told), aclosing(_encoded(told)) as self.body_iterator:
                await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        seconds = self._streams.send_seconds

        async def send_in_time(message: AsgiMessage) -> None:
            async with asyncio.timeout(seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        except TimeoutError:
            log.warning("a stream of %r is dropped: nothing was read for %g s", self._listener.caller.name, seconds)


async def _encoded(told: AsyncIterator[Message]) -> AsyncGenerator[bytes]:
    yield format_sse_event(comment="changes follow", retry=_RETRY_MS)
    async for message in told:
        yield _event(message)


def _event(message: Message) -> bytes:
    if message.event == "ping":
        return format_sse_event(comment="ping")
    data = json.dumps(message.data, ensure_ascii=False, separators=(",", ":"))
    return format_sse_event(event=message.event, id=message.id, data_str=data)
