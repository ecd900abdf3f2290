"""Who listens to a stream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taurine.http.access.caller import Caller
from taurine.http.representations import Shown

__all__ = ["Listener"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A caller, and what holds for its stream.

    shown: makes the documents. open_seconds: how long the ledger has before the stream begins.
    allowed: asked now and then; raises AccessError once the caller may no longer listen, since a key is revoked or a
    token is over.
    """

    caller: Caller
    shown: Shown
    open_seconds: float
    allowed: Callable[[], Awaitable[object]]
