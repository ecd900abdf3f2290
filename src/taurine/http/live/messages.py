"""What a stream says, in the words that server-sent events and WebSockets share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Literal, NamedTuple

from taurine.errors import AccessError, LedgerUnavailable, StreamDropped
from taurine.http.live.listener import Listener
from taurine.http.live.streams import Streams
from taurine.jobs.changes.subscription import Subscription

__all__ = ["Message", "messages"]


class Message(NamedTuple):
    """event: "job" (data: the job as it is now), "reset" (more has changed than is told one by one: read the list
    again), "end" (nothing more will be said), "dropped" (cut short, data says why).

    id: from where to go on listening; None where that is not said. Of a sign of life the event is "ping".
    """

    event: Literal["job", "reset", "end", "dropped", "ping"]
    id: str | None
    data: dict[str, Any]


_PING = Message("ping", None, {})


async def messages(changes: Subscription, listener: Listener, streams: Streams) -> AsyncGenerator[Message]:
    """All that a stream says, with a sign of life where there is nothing to say for so long.

    About as often it is asked whether the listener may still listen.
    """
    reading: asyncio.Task[Any] | None = None
    ping_seconds = streams.ping_seconds
    loop = asyncio.get_running_loop()
    asked = loop.time()
    try:
        while True:
            if loop.time() - asked >= ping_seconds:
                asked = loop.time()
                with contextlib.suppress(LedgerUnavailable):  # it is asked again
                    await listener.allowed()
            if reading is None:
                reading = asyncio.ensure_future(anext(changes))
            await asyncio.wait({reading}, timeout=ping_seconds)
            if not reading.done():
                yield _PING
                continue
            change, reading = reading.result(), None
            if change.record is None:
                yield Message("reset", change.position, {})
                continue
            document = await streams.documents.of(change.record, listener)
            yield Message("job", change.position, document)
    except StopAsyncIteration:
        yield Message("end", None, {})
    except (StreamDropped, AccessError) as error:
        yield Message("dropped", None, {"detail": str(error)})
    finally:
        if reading is not None:
            reading.cancel()
