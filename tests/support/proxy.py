"""A faulty network between a client and a server: one TCP proxy on 127.0.0.1, with its faults set while it runs.

    async with FaultProxy(server.port) as proxy:
        queue = Queue("q", proxy.url)
        proxy.delay(requests=0.001, replies=0.001)      # seconds for every chunk that passes
        proxy.chunk(1)                                  # one byte at a time
        cut = proxy.cut_reply(after=7, to=b"EVALSHA")   # reset after 7 bytes of that call's reply
        proxy.black_hole()                              # connections stay open, and no byte gets through
        proxy.reset()                                   # connections reset, new ones welcome
        proxy.down()                                    # connections reset, new ones refused
        await proxy.heal()                              # all of that is over

A reset is a TCP RST. A connection is closed politely only where one of its two ends did so.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import dataclass, field
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from types import TracebackType
from typing import Literal, Self

__all__ = ["Cut", "FaultProxy"]

Direction = Literal["requests", "replies"]

_READ_BYTES = 65_536
# Linger on, for zero seconds: closing then drops what is unsent and sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Link:
    """One client's connection, and the one to the server on its behalf."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self._writers: list[asyncio.StreamWriter] = []
        self.join(client)
        self._served_by = asyncio.current_task()
        self.mute = False
        self.ended = asyncio.Event()

    def join(self, writer: asyncio.StreamWriter) -> None:
        # drain() returns once the kernel has every byte: a reset must not drop what has passed.
        writer.transport.set_write_buffer_limits(high=0)
        self._writers.append(writer)

    def reset(self) -> None:
        client = self._writers[0].get_extra_info("socket")
        # It is closed already where a reset met the end of the connection.
        with contextlib.suppress(OSError):
            client.setsockopt(SOL_SOCKET, SO_LINGER, _RESET_ON_CLOSE)
        for writer in self._writers:
            writer.transport.abort()
        if self._served_by is not None:
            self._served_by.cancel()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self.ended.set()


@dataclass(eq=False)
class Cut:
    """One armed reset; it happens at most once.

    It waits for the first connection that sends `to`. From that request on, the bytes of `direction` on that connection
    count, and the reset comes when `after` of them have passed; `happened` tells. `passed` is what got through, so a
    test that arms it far beyond the end of a reply learns the reply's length.
    """

    direction: Direction
    after: int
    to: bytes
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    passed: bytearray = field(default_factory=bytearray)
    link: _Link | None = None

    def admit(self, chunk: bytes) -> bytes:
        """The part of the chunk that still gets through."""
        admitted = chunk[: self.after - len(self.passed)]
        self.passed += admitted
        return admitted

    @property
    def due(self) -> bool:
        return len(self.passed) >= self.after


class FaultProxy:
    """Forwards 127.0.0.1:`port` to a server's port on 127.0.0.1, or to its unix socket; without a fault until told one."""

    def __init__(self, upstream: int | Path) -> None:
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._road_open = asyncio.Event()
        self._road_open.set()
        self._delays: dict[Direction, float] = {"requests": 0.0, "replies": 0.0}
        self._piece_bytes = _READ_BYTES
        self._cuts: list[Cut] = []
        self.port = 0
        self.accepted = 0
        """Connections taken since the start."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def connections(self) -> int:
        """Connections open now."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        links = list(self._links)
        self.down()
        for link in links:
            await link.ended.wait()

    def delay(self, *, requests: float = 0.0, replies: float = 0.0) -> None:
        """Hold every chunk of a direction for so many seconds."""
        self._delays = {"requests": requests, "replies": replies}

    def chunk(self, size: int) -> None:
        """Pass at most `size` bytes at a time, each as a write of its own."""
        self._piece_bytes = size

    def cut_reply(self, *, after: int, to: bytes = b"") -> Cut:
        """Reset the connection once `after` bytes of the reply to the next request that holds `to` have passed.

        With 0 the server has done the work and the client hears nothing. Replies to earlier requests that are still
        under way on the same connection count too.
        """
        return self._arm(Cut("replies", after, to))

    def cut_request(self, *, after: int, to: bytes = b"") -> Cut:
        """Reset the connection once `after` bytes of the next request that holds `to` have passed; with 0, none of it."""
        return self._arm(Cut("requests", after, to))

    def redirect(self, upstream: int | Path) -> None:
        """Lead the connections that are yet to come to another server; a failover."""
        self._upstream = upstream

    def reset(self) -> None:
        """Reset every open connection; new ones are welcome."""
        for link in self._links:
            link.reset()

    def black_hole(self, *, lose: bool = False) -> None:
        """Let no byte pass, and close nothing; new connections are accepted and hear nothing.

        heal() delivers what was sent meanwhile, as TCP does after an outage. With `lose`, the connections open now stay
        mute for ever, as behind a router that forgot them.
        """
        self._road_open.clear()
        for link in self._links:
            link.mute = link.mute or lose

    def down(self) -> None:
        """Reset every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    async def heal(self) -> None:
        """End every fault; a cut that has not happened is disarmed."""
        self.delay()
        self.chunk(_READ_BYTES)
        self._cuts.clear()
        self._road_open.set()
        if self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def _arm(self, cut: Cut) -> Cut:
        self._cuts.append(cut)
        return cut

    async def _serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.accepted += 1
        link = _Link(to_client)
        self._links.add(link)
        try:
            await self._road_open.wait()
            from_server, to_server = await self._dial()
            link.join(to_server)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(link, "requests", from_client, to_server))
                pumps.create_task(self._pump(link, "replies", from_server, to_client))
        except (OSError, asyncio.CancelledError):
            link.reset()
        finally:
            self._links.discard(link)
            link.close()

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(self._upstream)
        return await asyncio.open_connection("127.0.0.1", self._upstream)

    async def _pump(
        self, link: _Link, direction: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while chunk := await source.read(_READ_BYTES):
                await asyncio.sleep(self._delays[direction])
                await self._road_open.wait()
                if not link.mute:
                    await self._forward(link, direction, chunk, sink)
            await self._road_open.wait()
            if not link.mute:
                sink.write_eof()
        except OSError:
            # One end is gone without a word, so the other is told the same way.
            link.reset()

    async def _forward(self, link: _Link, direction: Direction, chunk: bytes, sink: asyncio.StreamWriter) -> None:
        if direction == "requests":
            self._choose_link_of_cuts(link, chunk)
        cut = next((cut for cut in self._cuts if cut.link is link and cut.direction == direction), None)
        if cut is not None:
            chunk = cut.admit(chunk)
        for start in range(0, len(chunk), self._piece_bytes):
            sink.write(chunk[start : start + self._piece_bytes])
            await sink.drain()
            # Without a pause the kernel may join two pieces.
            await asyncio.sleep(0)
        if cut is not None and cut.due:
            self._cuts.remove(cut)
            cut.happened.set()
            link.reset()

    def _choose_link_of_cuts(self, link: _Link, request: bytes) -> None:
        for cut in self._cuts:
            if cut.link is None and cut.to in request:
                cut.link = link
