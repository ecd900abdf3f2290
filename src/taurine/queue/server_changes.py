"""Noticing when the server may have forgotten what it was told.

A server that was restarted, or a replica that took over, may have lost its newest writes. It can have lost some only
where another server process answers than before. So the one that was seen last is noted on the server itself, with the
time at which it was first seen; a note that is gone says that everything is.
Beside it stands whether somebody has made good what was lost, and who is about to: for each scope by itself, since an
application can only put back what is its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from taurine.options import Seconds, to_seconds
from taurine.queue.connection import Connection
from taurine.queue.keys import private_key
from taurine.queue.server_check import parse_info

__all__ = ["ServerChange", "ServerChanges"]

_SKEW_MS = 10_000
"""Jobs bear the time of the process that added them, whose clock may be behind by so much."""


@dataclass(frozen=True, slots=True)
class ServerChange:
    """The last time that another server process answered than before."""

    since_ms: int
    """Jobs of this time or before, ms since the epoch, may stand otherwise than they were left. 0 where none is left
    from before the change.
    """
    made_good: bool
    """True once somebody of the same scope has said so, by `ServerChanges.made_good`."""
    note: str = field(repr=False)
    """What the server has noted of it."""


class ServerChanges:
    """What one server has noted of the processes that it was, for all queues of a prefix.

    Holds nothing; several may be used at once.

    scope: whose losses `claim` and `made_good` are about. Default: those of all together. The change itself is noted
    once for all scopes.

    Every method raises StoreUnavailable, and StoreRefused for a user without the right to INFO.
    """

    def __init__(self, connection: Connection, prefix: str, *, scope: str = "") -> None:
        self._connection = connection
        end = f":{scope}" if scope else ""
        self._note = private_key(prefix, "server")
        self._made_good = private_key(prefix, f"made-good{end}")
        self._claim = private_key(prefix, f"making-good{end}")

    async def latest(self, now_ms: int) -> ServerChange:
        """The last change, which is noted if it is seen here first.

        now_ms: ms since the epoch. One round trip; two at a change.

        Where nothing was noted the server is new, or has lost everything: that counts as a change too.
        """
        info, noted, made_good = await self._connection.pipeline(
            [("INFO", "server"), ("GET", self._note), ("GET", self._made_good)]
        )
        server, note = parse_info(_text(info)).get("run_id", ""), _text(noted)
        seen, since, *_ = *note.split(" "), ""
        if seen == server and since.isdecimal():
            return ServerChange(int(since), note == _text(made_good), note)
        # The note is written before the first job: where there is none, all that is there was added since.
        since_ms = now_ms + _SKEW_MS if seen else 0
        note = f"{server} {since_ms} {now_ms}"  # the last word tells one loss of everything from the next
        await self._connection.call("SET", self._note, note)
        return ServerChange(since_ms, False, note)

    async def claim(self, by: str, seconds: Seconds) -> bool:
        """True for the one who is to make good what was lost; others need not.

        Who calls again keeps it for `seconds` more.

        It spares work and excludes nobody: a claim that runs out is another's while the first may still be at it.
        """
        ms = round(to_seconds(seconds, "seconds") * 1000)
        held = await self._connection.call("SET", self._claim, by, "NX", "GET", "PX", ms)
        if held is None:
            return True
        if _text(held) != by:
            return False
        await self._connection.call("SET", self._claim, by, "PX", ms)
        return True

    async def made_good(self, change: ServerChange) -> None:
        """Note that nothing is missing any more after this change. A later change is not concerned."""
        # The claim is left to run out: who has read just before that nothing was made good finds it, and does not begin again.
        await self._connection.call("SET", self._made_good, change.note)


def _text(raw: bytes | None) -> str:
    return "" if raw is None else raw.decode("utf-8", "replace")
