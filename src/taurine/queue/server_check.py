"""What to warn of when a worker meets a server: settings and versions that lose jobs or have known holes."""

from __future__ import annotations

import re
from typing import TypeAlias

from taurine.errors import StoreRefused
from taurine.queue.connection import Connection

__all__ = ["parse_info", "server_warnings"]

Version: TypeAlias = tuple[int, int, int]

# The first patched release of each line, by the advisories of July 2026 (Lua engine, blocked clients, streams, TLS). A line that is not
# listed is patched from its first release, if newer than all listed, or gets no more fixes, if older.
_PATCHED: dict[str, tuple[Version, ...]] = {
    "redis": ((6, 2, 23), (7, 2, 15), (7, 4, 10), (8, 2, 8), (8, 4, 5), (8, 6, 5), (8, 8, 1)),
    "valkey": ((7, 2, 13), (8, 0, 10), (8, 1, 7), (9, 0, 5), (9, 1, 1)),
}
_OLDEST: dict[str, Version] = {"redis": (7, 0, 0), "valkey": (7, 2, 0)}


def parse_info(text: str) -> dict[str, str]:
    """The fields of an INFO reply."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


async def server_warnings(connection: Connection) -> list[str]:
    """Warnings for the log, none for a server that is fit.

    Raises StoreUnavailable; a user without the right to INFO gets none.
    """
    try:
        info = parse_info((await connection.call("INFO", "everything")).decode("utf-8", "replace"))
    except StoreRefused:
        return []
    return [warning for warning in (_eviction(info), _version(info)) if warning]


def _eviction(info: dict[str, str]) -> str | None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return None
    return (
        f"the server's maxmemory-policy is {policy}: it may delete jobs when memory is full. "
        "Set `maxmemory-policy noeviction` on the server that holds queues"
    )


def _version(info: dict[str, str]) -> str | None:
    kind = "valkey" if "valkey_version" in info else "redis"
    text = info.get(f"{kind}_version", "")
    version = _parse_version(text)
    if version is None:
        return None
    if version < _OLDEST[kind]:
        return f"{kind} {text} is older than {_dotted(_OLDEST[kind])}, the oldest that Taurine's scripts are made for"
    line = next((patched for patched in _PATCHED[kind] if patched[:2] == version[:2]), None)
    if line is None:
        return (
            None
            if version > _PATCHED[kind][-1]
            else f"{kind} {text} is of a line that gets no more security fixes; upgrade it"
        )
    if version < line:
        return f"{kind} {text} has published security holes in what queues use; upgrade to {_dotted(line)} or later"
    return None


def _parse_version(text: str) -> Version | None:
    found = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))
