"""APIs in processes of their own, each of which dies at a moment that a request names in its header `X-Dies`: python
dying_api.py '{"redis_url": …}' 4.

Prints a line for each, where it listens, and at last how many were killed.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextvars import ContextVar
from typing import Any, NoReturn

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from support.api import declare_invites
from taurine.app import Taurine
from taurine.http import create_app
from taurine.http.serving import listen, serve, url_of
from taurine.jobs.handover.prompt import PromptHandOver

_moment: ContextVar[str] = ContextVar("moment", default="")


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still there")


class Dying:
    """The outermost ASGI layer.

    Moments: "asked", "recorded" (the record is committed, its queue knows of nothing), "answering" (nothing of the
    answer is sent), "half answered".
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        moment = dict(scope["headers"]).get(b"x-dies", b"").decode()
        _moment.set(moment)
        if moment == "asked":
            _die()

        async def send_or_die(message: Message) -> None:
            if moment == "answering" or (moment == "half answered" and message["type"] == "http.response.body"):
                _die()
            await send(message)

        await self._app(scope, receive, send_or_die)


def die_when_recorded() -> None:
    """Where the call that recorded jobs would hand them over."""
    hand_over = PromptHandOver.hand_over

    async def hand_over_or_die(self: PromptHandOver, **what: Any) -> None:
        if _moment.get() == "recorded":
            _die()
        await hand_over(self, **what)

    PromptHandOver.hand_over = hand_over_or_die


async def main(settings: dict[str, str]) -> None:
    app = Taurine("test", **settings)  # pyright: ignore[reportArgumentType] - they are Taurine's own
    declare_invites(app)
    die_when_recorded()
    api = create_app(app, answer_within=30)
    api.add_middleware(Dying)
    listening = listen("127.0.0.1", 0)
    await serve(api, listening, ready=lambda: print(url_of(listening), flush=True))


def start(settings: dict[str, str]) -> int:
    """Fork, since to import everything takes longer than all else; returns the child's pid."""
    child = os.fork()
    if not child:
        asyncio.run(main(settings))
        os._exit(0)
    return child


if __name__ == "__main__":
    children = [start(json.loads(sys.argv[1])) for _ in range(int(sys.argv[2]))]
    try:
        ends = [os.waitpid(child, 0)[1] for child in children]
    except BaseException:
        for child in children:
            os.kill(child, signal.SIGKILL)
        raise
    print(sum(os.WTERMSIG(end) == signal.SIGKILL for end in ends), flush=True)
