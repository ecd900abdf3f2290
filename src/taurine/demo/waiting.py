"""Waiting for something that the demo cannot go on without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from taurine.demo.children import Child

__all__ = ["LOOK", "PATIENCE", "Stuck", "until"]

Found = TypeVar("Found")

LOOK = 0.1
"""Seconds between two looks."""

PATIENCE = 45.0
"""Seconds without any change after which the demo gives up."""


class Stuck(Exception):
    """The demo does not get on."""


async def until(
    find: Callable[[], Awaitable[Found | None]],
    what: str,
    *,
    needs: Iterable[Child] = (),
    moved: Callable[[], object] = lambda: None,
    patience: float = PATIENCE,
) -> Found:
    """What `find` gives once it is not None.

    needs: processes without which it will never come. moved: a value that changes while there is still something going
    on; the patience begins anew then.
    Raises Stuck when it has not come within `patience` seconds, and ChildFailed.
    """
    seen, changed_at = moved(), time.monotonic()
    while (found := await find()) is None:
        for child in needs:
            child.check()
        if (now := moved()) != seen:
            seen, changed_at = now, time.monotonic()
        elif time.monotonic() - changed_at > patience:
            raise Stuck(f"gave up after {patience:g} s of waiting for {what}")
        await asyncio.sleep(LOOK)
    return found
