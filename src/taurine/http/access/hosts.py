"""The names that the API is reached under: others are answered 421.

A page of a stranger can make a name of its own point to this machine, and the browser then takes what answers for that
page's own (DNS rebinding). Such a request comes from loopback and is of the same origin; only its Host header gives it
away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from taurine.errors import InvalidOption
from taurine.http.access.loopback import is_loopback
from taurine.http.access.refusing import header_values, refuse
from taurine.http.problems import CODES

__all__ = ["AllowedHosts", "host_name"]

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_ALLOWED = re.compile(r"\*|(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[?[0-9a-f:.]+\]?", re.ASCII)


class AllowedHosts:
    """The ASGI layer that lets requests pass whose Host is on the list.

    hosts: see `Access.hosts`; loopback's own names are always on it. Raises InvalidOption.
    """

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str] = ()) -> None:
        self._app = app
        names = [host.lower() for host in hosts]
        for name in names:
            if not _ALLOWED.fullmatch(name):
                raise InvalidOption(
                    f"expected hosts to be names such as 'jobs.example.com', without scheme, port and path, got {name!r:.100}"
                )
        self._any = "*" in names
        self._exact = frozenset(name.strip("[]") for name in names)
        self._endings = tuple(name[1:] for name in names if name.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] not in ("http", "websocket") or self._allows(scope):
            await self._app(scope, receive, send)
            return
        await refuse(
            scope,
            send,
            CODES["misdirected_request"],
            "the name in the Host header is not one that this API is reached under; add it with `taurine serve --allow-host NAME`, or Access(hosts=[…])",
        )

    def _allows(self, scope: Scope) -> bool:
        values = header_values(scope, b"host")
        if len(values) != 1 or (name := host_name(values[0])) is None:
            return False
        return self._any or name in self._exact or name.endswith(self._endings) or is_loopback(name)


def host_name(host: str) -> str | None:
    """The name, or the address without brackets, of a Host header; None for what is none."""
    match = _HOST.fullmatch(host.lower())
    return None if match is None else match[1].strip("[]").removesuffix(".")
