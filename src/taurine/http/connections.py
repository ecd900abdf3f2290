"""A connection of the served API: who connects and does not say what it wants is let go.

uvicorn waits for the head of a request as long as it takes, so whoever opens connections and says nothing, or a byte
now and then, would have all of them in the end. Its `limit_concurrency` answers 503 to those above it and keeps their
connections; here they are closed, while there are still files for the ledger and for the server of queues.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from math import inf
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection"]

_MOST_UNSENT = 128 * 1024
"""Bytes that the system keeps for a client which has no room for them."""


class Connection(H11Protocol):
    """h11's, whichever other parser is installed: it bounds the head of a request, at 64 KiB, and the others do not."""

    head_within: ClassVar[float] = 30.0
    """Seconds for the head of a request to arrive: from its first byte, and that of the first request from the
    connection on.
    """

    most: ClassVar[int | None] = None
    """Connections that are kept; others are closed at once. None: seven eighths of the files that may be open here."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop."""
        super().connection_made(transport)
        if len(self.connections) > (_room() if self.most is None else self.most):
            transport.abort()
            return
        _keep_little_unsent(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        super().data_received(data)
        if self._is_asked():
            self._stop_waiting()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _is_asked(self) -> bool:
        """Whether a request is being answered."""
        cycle = self.cycle
        return cycle is not None and not cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison] - None at first

    def _wait_for_head(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.head_within, self._let_go)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _let_go(self) -> None:
        self._timer = None
        # A WebSocket has another protocol by now.
        if self.transport.get_protocol() is self and not self._is_asked():
            self.transport.close()


def _room() -> float:
    if sys.platform == "win32":
        return inf
    import resource

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return inf if files == resource.RLIM_INFINITY else files - files // 8


def _keep_little_unsent(transport: asyncio.Transport) -> None:
    """Let the system take only what it can send.

    Else it takes megabytes at a time, and whoever reads slowly looks for long as if nothing were read.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with contextlib.suppress(OSError):  # not TCP
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
