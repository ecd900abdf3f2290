"""Changes that a page of another site makes a browser send: refused.

A browser adds its cookies, and passwords of Basic, to whatever any page makes it send; and who calls from this machine
may need no credential at all. So what changes something, and every WebSocket, must come from a page of this API's own
origin, from an origin on the list, or from no page at all. Browsers say so in `Sec-Fetch-Site`, and older ones in
`Origin`. A key or token in `Authorization: Bearer` is never added by a browser by itself: such requests pass.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from taurine.http.access.origins import Origins
from taurine.http.access.refusing import header_values, refuse
from taurine.http.problems import Kind

__all__ = ["CrossSite"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_CROSS_SITE = Kind(403, "cross_site_request", "A page of another site may not do this")
_OWN = frozenset({"same-origin", "none"})


class CrossSite:
    """The ASGI layer that refuses them with 403. origins: those whose pages may call all the same."""

    def __init__(self, app: ASGIApp, *, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] not in ("http", "websocket") or self._allows(scope):
            await self._app(scope, receive, send)
            return
        await refuse(
            scope,
            send,
            _CROSS_SITE,
            "the request comes from a page of another origin; name that in Access(origins=[…]), or send a key in the Authorization header",
        )

    def _allows(self, scope: Scope) -> bool:
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return True
        if any(value.lower().startswith("bearer ") for value in header_values(scope, b"authorization")):
            return True
        origins = header_values(scope, b"origin")
        if len(origins) > 1:
            return False
        # A listed page may call with a key of its own; what a browser adds by itself is not its to use.
        added = header_values(scope, b"cookie") or header_values(scope, b"authorization")
        if origins and self._origins.knows(origins[0]) and not added:
            return True
        sites = header_values(scope, b"sec-fetch-site")
        if sites:
            return len(sites) == 1 and sites[0] in _OWN
        return not origins or self._origins.is_own(scope, origins[0])
