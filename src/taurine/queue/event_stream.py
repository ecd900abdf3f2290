"""Reading a queue's event stream: one blocking reader with a link of its own and a place in the stream.

The place is fixed when the reader is opened, so that a reconnect goes on where the last read ended. The stream is short
(about 10,000 entries), and a reader that is slower than the queue misses what was cut off meanwhile.
"""

from __future__ import annotations

from typing import TypeAlias

from taurine.queue.connection import Connection
from taurine.queue.keys import QueueKeys

__all__ = ["Entry", "EventStream", "stream_order"]

Entry: TypeAlias = "tuple[bytes, list[bytes]]"
"""An entry's id, and its fields and values in turn."""

_BATCH = 500
"""Entries per read: bounds the reader's memory."""


def stream_order(entry_id: str) -> tuple[int, int]:
    """What to compare entry ids by."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds), int(sequence or 0)


class EventStream:
    """The entries of one queue's stream after `position`, for one reader.

    position: an entry's id. None: where the stream ends when it is opened. block: seconds that a read waits on the
    server.
    """

    def __init__(self, connection: Connection, keys: QueueKeys, *, position: str | None, block: float) -> None:
        self._key = keys.events
        self._block = block
        # The name by which BullMQ's `getQueueEvents` finds listeners.
        self._link = connection.link(client_name=f"{keys.client_name()}:qe")
        self.position = position

    async def open(self) -> None:
        """Connect and fix the place, if that is not done. Raises StoreUnavailable or StoreRefused."""
        if self._link.connected:
            return
        newest: list[Entry] = await self._link.call("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        end = newest[0][0].decode() if newest else "0-0"
        # A place beyond the end is one of a server that has lost its newest entries, or all: waiting for it to be passed may take for ever.
        if self.position is None or stream_order(self.position) > stream_order(end):
            self.position = end

    async def read(self) -> list[Entry]:
        """The next entries, oldest first; none when none came in time.

        Raises StoreUnavailable, after which it may be called again, or StoreRefused.
        """
        await self.open()
        assert self.position is not None
        reply: list[tuple[bytes, list[Entry]]] | None = await self._link.blocking_call(
            "XREAD", "COUNT", _BATCH, "BLOCK", round(self._block * 1000), "STREAMS", self._key, self.position,
            block=self._block,
        )  # fmt: skip
        if not reply:
            return []
        entries = reply[0][1]
        self.position = entries[-1][0].decode()
        return entries

    async def close(self) -> None:
        await self._link.close()
