"""How a child process learns that it is to end: by SIGTERM, or because the process that started it is gone."""

from __future__ import annotations

import asyncio
import signal
import sys

__all__ = ["told_to_stop"]


async def told_to_stop() -> None:
    """Return at SIGTERM, or when the other end of standard input closes, which a parent's death does, however it died."""
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    loop.add_reader(sys.stdin.fileno(), told.set)
    try:
        await told.wait()
    finally:
        loop.remove_reader(sys.stdin.fileno())
