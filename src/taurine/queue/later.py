"""An outcome that is known and must not be told yet: something has to be written first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Later"]


class Later:
    """What a handler returns when its work is done, and its result counts once that is written elsewhere.

    Its slot is free for another job at once, the lease stays until `settle`. All of it happens on the worker's event loop.
    """

    __slots__ = ("_heard", "_rest")

    def __init__(self) -> None:
        self._heard: Callable[[Any], None] | None = None
        self._rest: asyncio.Task[Any] | None = None

    def then(self, heard: Callable[[Any], None]) -> None:
        """Have `heard` called with what the handler is taken to have returned, or with the error that it is taken to have raised. For the worker, once."""
        self._heard = heard

    async def answer(self) -> Any:
        """Wait for it: returns what the handler is taken to have returned, or raises. In place of `then`; cancelling it abandons the answer."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.then(answered.set_result)
        try:
            answer = await answered
        except asyncio.CancelledError:
            self.abandon()
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def settle(self, answer: Any) -> None:
        """It is written; of the answers only the first counts."""
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(answer)

    def settle_by(self, rest: Coroutine[Any, Any, Any]) -> None:
        """It could not be written in one go: what `rest` returns or raises is the answer."""
        self._rest = asyncio.create_task(rest)
        self._rest.add_done_callback(self._rest_is_done)

    def hurry(self) -> None:
        """The worker ends: what could not be written in one go is not tried any further, and the job is handed back."""
        if self._rest is not None:
            self._rest.cancel()

    def abandon(self) -> None:
        """The worker waits no longer."""
        self._heard = None
        self.hurry()

    def _rest_is_done(self, rest: asyncio.Task[Any]) -> None:
        if rest.cancelled():
            self.settle(asyncio.CancelledError())
        else:
            self.settle(rest.exception() or rest.result())
