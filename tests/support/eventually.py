"""Wait for a condition, with a deadline and a message that shows what was last seen."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

__all__ = ["eventually"]

T = TypeVar("T")


async def eventually(
    condition: Callable[[], T | Awaitable[T]], within: float = 5.0, message: str = "", *, every: float = 0.01
) -> T:
    """Call `condition` until it returns something true, and return that.

    It may be a coroutine function, and it may say what is missing by an assertion: that counts as not yet.
    within and every are seconds. Raises AssertionError with `message` and what was last seen.
    """
    seen: object = "nothing yet"
    try:
        async with asyncio.timeout(within):
            while True:
                try:
                    outcome = condition()
                    value = cast(T, await outcome if inspect.isawaitable(outcome) else outcome)
                except AssertionError as missing:
                    seen = f"{missing}"
                else:
                    if value:
                        return value
                    seen = repr(value)
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(
            f"{message or 'the condition did not come true'} within {within:g} s; last seen: {seen}"
        ) from None
