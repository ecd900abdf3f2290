"""An outcome that is known and must not be told yet: something has to be written first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

__all__ = ["Later"]


class Later:
    """What a handler returns when its work is done, and its result counts once that is written elsewhere.

    Its slot is free for another job at once, the lease stays until `settle`. All of it happens on the worker's event
    loop.
    """

    __slots__ = ("_heard", "_hurried", "_rest")

    def __init__(self) -> None:
        self._heard: Callable[[Any], None] | None = None
        self._hurried = False
        self._rest: asyncio.Task[Any] | None = None

    def then(self, heard: Callable[[Any], None]) -> None:
        """Have `heard` called with what the handler is taken to have returned, or with the error that it is taken to
        have raised. For the worker, once.
        """
        self._heard = heard

    async def answer(self) -> Any:
        """Wait for it: returns what the handler is taken to have returned, or raises.

        In place of `then`; cancelling it abandons the answer.
        """
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.then(partial(_answer, answered))
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
        """It could not be written in one go: what `rest` returns or raises is the answer.

        It is not begun once the worker hurries.
        """
        if self._hurried:
            rest.close()
            self.settle(asyncio.CancelledError())
            return
        self._rest = asyncio.create_task(rest)
        self._rest.add_done_callback(self._rest_is_done)

    def hurry(self) -> None:
        """The worker ends: what could not be written in one go is not tried any further, and the job is handed back."""
        self._hurried = True
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


def _answer(answered: asyncio.Future[Any], answer: Any) -> None:
    # Who waits may have been cancelled a moment ago, and not have heard of it yet.
    if not answered.done():
        answered.set_result(answer)
