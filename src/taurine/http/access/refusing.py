"""What the layers in front of the routes share: reading headers of a scope, and saying no."""

from __future__ import annotations

from starlette.types import Scope, Send

from taurine.http.problems import Kind, problem_response

__all__ = ["header_values", "refuse"]


def header_values(scope: Scope, name: bytes) -> list[str]:
    """The values of a header, in order. name: in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def refuse(scope: Scope, send: Send, kind: Kind, detail: str) -> None:
    """Answer with a problem document; a WebSocket is refused before it is one."""
    if scope["type"] == "websocket":
        # The server makes 403 of it.
        await send({"type": "websocket.close", "code": 1008, "reason": kind.title})
        return
    response = problem_response(kind, detail, instance=scope["path"])
    await send({"type": "http.response.start", "status": kind.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body})
