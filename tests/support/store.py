"""A plain client of a server, with which the tests look at keys."""

from __future__ import annotations

from typing import Any, TypeAlias

from redis.asyncio import Redis

from support.server import ValkeyServer

__all__ = ["RawStore", "open_store"]

RawStore: TypeAlias = Any
"""A `redis.asyncio.Redis` that returns str. redis-py types its replies for str and bytes and for both protocols at
once.
"""


def open_store(server: ValkeyServer) -> RawStore:
    """A client of this server; use it in `async with`."""
    return Redis.from_url(server.socket_url, decode_responses=True)
