"""The HTTP API of the demo's application, on a port of this machine that is free."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from importlib.util import find_spec

from taurine.app import Taurine

__all__ = ["serve_api"]


async def serve_api(app: Taurine, stack: AsyncExitStack) -> list[str]:
    """Serve it until the stack is closed; returns what to say of it, line by line."""
    if any(find_spec(module) is None for module in ("fastapi", "uvicorn", "argon2", "itsdangerous")):
        return ['the API needs the extra http: pip install "taurine[http]"']
    from taurine.http import create_app
    from taurine.http.serving import curl_line, listen, serve, url_of

    listening = listen("127.0.0.1", 0)
    url = url_of(listening)
    ready = asyncio.Event()
    serving = asyncio.create_task(serve(create_app(app), listening, ready=ready.set, grace=1.0, lifespan=False))
    stack.push_async_callback(_ended, serving)
    await ready.wait()
    line = curl_line(app, url, credentials=False, only="ticket.export")  # all tickets are triaged by now
    return [f"{url}, its OpenAPI document at {url}/openapi.json", line]


async def _ended(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
