"""Work that would hold up the event loop: to look through a megabyte of payloads for secrets takes some tenths of a
second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["aside"]

_MUCH = 64 << 10
"""Characters from which on it is worth a thread."""

ResultT = TypeVar("ResultT")


async def aside(size: int, make: Callable[[], ResultT]) -> ResultT:
    """`make()`, in a thread where it has much to look through. size: characters."""
    return make() if size < _MUCH else await asyncio.to_thread(make)
