"""The cookie of a session: what the browser keeps, and what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection
from starlette.responses import Response

from taurine.http.access.caller import Caller
from taurine.jobs.credentials.sessions import Sessions
from taurine.options import to_seconds

if TYPE_CHECKING:
    from taurine.http.access.access import Access

__all__ = ["Cookies"]

_NAME = "taurine_session"
_HOST_NAME = "__Host-taurine_session"
"""A browser takes a cookie of such a name only over https, from this very host, and for all of it: no neighbour below
the same domain can plant one.
"""


class Cookies:
    """Puts a session's token into a cookie, and finds the session of a request."""

    def __init__(self, access: Access, sessions: Sessions) -> None:
        self._sessions = sessions
        self._life = round(to_seconds(access.session_life, "session_life"))
        self._idle = access.session_idle
        self._secure = access.secure_cookies

    def token_of(self, connection: HTTPConnection) -> str | None:
        """The token in the cookie of a request."""
        return connection.cookies.get(_HOST_NAME if self.is_secure(connection) else _NAME)

    async def caller(self, connection: HTTPConnection) -> Caller | None:
        """Whose session it is; None without one, or for one that is over. Raises LedgerUnavailable."""
        token = self.token_of(connection)
        if not token:
            return None
        session = await self._sessions.find(token, idle=self._idle)
        return None if session is None else Caller(name=session.name, scopes=session.scopes, tenant=session.tenant)

    def give(self, connection: HTTPConnection, response: Response, token: str) -> None:
        """Let the browser keep a session."""
        secure = self.is_secure(connection)
        response.set_cookie(
            _HOST_NAME if secure else _NAME,
            token,
            max_age=self._life,
            path="/",
            secure=secure,
            httponly=True,
            samesite="lax",
        )

    def take(self, connection: HTTPConnection, response: Response) -> None:
        """Let the browser forget it."""
        secure = self.is_secure(connection)
        response.delete_cookie(_HOST_NAME if secure else _NAME, path="/", secure=secure, httponly=True, samesite="lax")

    def is_secure(self, connection: HTTPConnection) -> bool:
        """Whether cookies of this request are for https alone."""
        if self._secure is not None:
            return self._secure
        return connection.url.scheme in ("https", "wss")
