"""Paths: names and ids in them may hold any printable character, a slash too when it is sent as `%2F`; and links work
under whatever prefix the API stands.

A server decodes a path before it hands it on, after which the slash of an id is one between segments. So a layer goes
back to the path as it was sent, and keeps `/` and `%` of a segment escaped on the way through the router; `InPath`
gives them back.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, cast
from urllib.parse import quote, unquote_to_bytes

from fastapi import Path
from pydantic import AfterValidator
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LONGEST", "InPath", "Paths", "link", "path_text", "printable"]

LONGEST = 1024


class Paths:
    """The ASGI layer that keeps a segment's own slashes, and takes one off the end of a path."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] in ("http", "websocket"):
            path = cast("str", scope["path"])
            root = cast("str", scope.get("root_path", ""))
            raw = cast("bytes", scope.get("raw_path") or b"").partition(b"?")[0]
            if root and _text(raw) == root + path:
                path = root + path  # a prefix that was taken off could not be told from a path that begins alike
            if b"%" in raw or "%" in path:
                path = _kept(path, raw)
            if path.endswith("/") and path[:-1] != root:
                path = path[:-1]  # the same resource; nobody is sent elsewhere
            if path is not scope["path"]:
                scope = {**scope, "path": path}
        await self._app(scope, receive, send)


def _kept(path: str, raw: bytes) -> str:
    """`path` with the slashes and percent signs of its segments escaped.

    raw: the same as it was sent, perhaps with a prefix in front that somebody took off.
    """
    segments = [_text(segment) for segment in raw.split(b"/")]
    for first in range(len(segments)):
        rest = segments[first:]
        decoded = "/".join(rest)
        if first and not path.startswith("/"):
            break
        if (decoded if not first else f"/{decoded}") == path:
            kept = "/".join(map(_escaped, rest))
            return kept if not first else f"/{kept}"
    return path.replace("%", "%25")


def _text(segment: bytes) -> str:
    return unquote_to_bytes(segment).decode(errors="replace")


def _escaped(segment: str) -> str:
    return segment.replace("%", "%25").replace("/", "%2F")


def path_text(segment: str) -> str:
    """A segment as its sender means it. Raises ValueError for text that no name and no id has."""
    return printable(segment.replace("%2F", "/").replace("%25", "%"))


def printable(text: str) -> str:
    """`text`, if it can be a name or an id. Raises ValueError: some databases fail on what is none."""
    if not text.isprintable() or len(text) > LONGEST:
        raise ValueError(f"expected printable text of at most {LONGEST} characters")
    return text


InPath: TypeAlias = Annotated[str, Path(min_length=1), AfterValidator(path_text)]
"""The type of every name or id in a path."""


def link(connection: HTTPConnection, *segments: Any) -> str:
    """The path of a resource, as its client reaches it.

    segments: below the API's own root, for example ("v1", "jobs", job_id).
    """
    root = cast("str", connection.scope.get("root_path", "")).rstrip("/")
    return quote(root) + "".join("/" + quote(str(segment), safe="") for segment in segments)
