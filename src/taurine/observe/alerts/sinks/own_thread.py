"""Blocking calls of sinks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from threading import Thread

__all__ = ["in_own_thread"]


async def in_own_thread(call: Callable[[], None]) -> None:
    """Run `call` in a thread that nobody waits for at the end: one that hangs in a server must neither keep the
    process, nor a place among the threads of the loop.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)

    def run() -> None:
        failed: BaseException | None = None
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - it goes to whoever waits
            failed = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, failed)

    Thread(target=run, name="taurine alert sink", daemon=True).start()
    await ended
