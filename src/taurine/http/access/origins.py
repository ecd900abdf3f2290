"""Origins: where the page comes from that makes a browser call."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import Scope

from taurine.errors import InvalidOption
from taurine.http.access.refusing import header_values

__all__ = ["Origins"]

_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Origins:
    """Other origins whose pages may call, each written out: `https://app.example.com`.

    Raises InvalidOption for what is none, "*" and "null" included.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._known = frozenset(_checked(origin) for origin in origins)

    def __bool__(self) -> bool:
        return bool(self._known)

    def knows(self, origin: str) -> bool:
        """Whether it is on the list."""
        return origin in self._known

    def is_own(self, scope: Scope, origin: str) -> bool:
        """Whether a page of this origin was served by the host that it calls.

        A proxy may have taken the scheme away, so that host and port are compared.
        """
        hosts = header_values(scope, b"host")
        try:
            parts = urlsplit(origin)
            host = urlsplit(f"//{hosts[0]}") if len(hosts) == 1 else None
            if host is None or not parts.hostname or parts.scheme not in _PORTS:
                return False
            standard = _PORTS[parts.scheme]
            return (parts.hostname, parts.port or standard) == (host.hostname, host.port or standard)
        except ValueError:  # a port that is no number
            return False


def _checked(origin: str) -> str:
    parts = urlsplit(origin)
    plain = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or not parts.hostname or "*" in origin or "@" in origin or plain != origin:
        raise InvalidOption(
            f"expected origins to be written out, such as 'https://app.example.com', without a path and without '*', got {origin!r:.100}"
        )
    return origin.lower()
