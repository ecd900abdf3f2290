"""What a test may leave behind: nothing. Keys, connections and asyncio tasks are counted after each."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import redis

from support.eventually import eventually
from support.server import ValkeyServer

__all__ = ["ServerWatch", "no_tasks_remain"]

_GRACE_SECONDS = 2.0
"""The server sees a closed connection, and a cancelled task its end, a moment after the test."""


async def no_tasks_remain() -> None:
    """Raise AssertionError when a task other than the caller's is still alive on this loop."""

    def only_this_one() -> bool:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, "\n".join(sorted(map(repr, others)))
        return True

    await eventually(only_this_one, _GRACE_SECONDS, "the test left asyncio tasks running: they did not end")


class ServerWatch:
    """Compares the server after a test with how it was before."""

    def __init__(self, server: ValkeyServer) -> None:
        self._admin = redis.Redis(unix_socket_path=str(server.socket), decode_responses=True)
        self._known: set[str] = set()

    def before(self) -> None:
        """Remember the connections that are not the coming test's."""
        self._known = {client["id"] for client in self._clients()}

    def after(self, prefix: str) -> list[str]:
        """What the test left outside its prefix, one line each; then empty the server for the next one."""
        leaks = [
            f"connection left open: { ({field: client[field] for field in ('name', 'lib-name', 'cmd', 'age', 'addr')}) }"
            for client in self._connections_left()
        ]
        leaks += [f"key outside the prefix {prefix!r}: {key!r}" for key in self._keys() if not key.startswith(prefix)]
        self._admin.flushall()
        return leaks

    def close(self) -> None:
        self._admin.close()

    def _connections_left(self) -> list[dict[str, Any]]:
        deadline = time.monotonic() + _GRACE_SECONDS
        while (left := [c for c in self._clients() if c["id"] not in self._known]) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left

    def _clients(self) -> list[dict[str, Any]]:
        return cast("list[dict[str, Any]]", self._admin.client_list())

    def _keys(self) -> list[str]:
        return sorted(cast("list[str]", list(self._admin.scan_iter(count=10_000))))
