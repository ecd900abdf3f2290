"""The gate: one way in for everybody, however they say who they are."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, cast

from starlette.requests import HTTPConnection

from taurine.errors import Forbidden, InvalidOption, Unauthenticated
from taurine.http.access.caller import Caller, Scope
from taurine.http.access.cookies import Cookies
from taurine.http.access.keys import KeyRing
from taurine.http.access.loopback import calls_from_here
from taurine.http.access.oidc import IssuerLogins
from taurine.http.access.public_tokens import BEGINNING, PublicToken, PublicTokens
from taurine.http.access.reach import reaches
from taurine.http.access.refusals import Refusals
from taurine.http.access.signing import signing_secrets
from taurine.http.patience import InTime
from taurine.jobs.reporting.redaction import Redact
from taurine.options import to_seconds

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.http.access.access import Access

__all__ = ["Gate"]

_LOCAL = Caller(name="local", scopes=frozenset({"admin"}))
_INVALID = 'Bearer realm="taurine", error="invalid_token"'
_USED = "taurine.used_token"
"""Where a request's scope has the token of one use that let it in: two dependencies of one route are one use."""


class Gate:
    """`Access` of one application: who calls, and whether they may. Made by `Access.gate`; `api.state.api.gate`.

    cookies: sessions of browsers. admins: checks passwords; None without logins.
    issuer: logins by OpenID Connect; None without them. refusals: who was refused of late, by the gate itself and by
    routes.
    """

    def __init__(self, access: Access, app: Taurine, *, answer_within: float) -> None:
        self.access = access
        self.app = app
        self.cookies = Cookies(access, app.sessions)
        self.admins = app.admins if access.login else None
        if access.public_tokens and not access.secrets and app.settings.secret is None and app.settings.env != "dev":
            raise InvalidOption("expected a secret for public tokens: Access(secret=…), or the variable TAURINE_SECRET")
        seconds = to_seconds(access.heard_within, "heard_within")
        self._keys = KeyRing(app.api_keys, heard_within=seconds, clock=app.clock) if access.keys else None
        in_development = app.settings.env == "dev"
        self._open_on_loopback = in_development if access.open_on_loopback is None else access.open_on_loopback
        self.issuer = self._issuer_logins()
        self.refusals = Refusals(app)
        self._configured = access.host_login is not None or access.oidc is not None
        self._answer_within = answer_within

    async def caller(self, connection: HTTPConnection, scope: Scope | None, *, heeds_tag: bool = False) -> Caller:
        """Who calls, if they have this scope, and reach what the path names; see `taurine.http.calls`.

        scope: None for anybody who is known.

        Raises Unauthenticated where nobody is known to call, Forbidden for a caller who may not, LedgerUnavailable.
        """
        # How long the host's own login takes is the host's affair.
        async with InTime(None if self.access.host_login is not None else self._answer_within):
            token = self._token_of(connection)
            caller = token.caller if token is not None else await self._who(connection)
            if caller is None:
                raise Unauthenticated(
                    "nobody is known to call; send an API key in the header `Authorization`, as `Bearer <key>`; `taurine keys create` makes one"
                )
            if scope is None:
                return caller
            try:
                await self._admit(caller, connection, scope, heeds_tag=heeds_tag)
            except Forbidden as error:
                self.refusals.note(caller.answerable, caller.tenant, error)
                raise
            if token is not None and token.once and connection.scope.get(_USED) != token.id:
                await cast("PublicTokens", self.tokens).use(token)
                connection.scope[_USED] = token.id
            return caller

    async def _admit(self, caller: Caller, connection: HTTPConnection, scope: Scope, *, heeds_tag: bool) -> None:
        if not caller.may(scope):
            raise Forbidden(f"{caller.name!r:.200} may not do this: it needs the scope {scope!r}")
        if caller.bound and not await reaches(caller, connection, self.app, heeds_tag=heeds_tag):
            raise Forbidden(
                f"{caller.name!r:.200} may not do this: it has a public token, which is bound to something else"
            )

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """What is signed with, the one that signs first; none where there is none.

        Made at the first call in development. Raises InvalidOption.
        """
        return signing_secrets(self.access, self.app.settings)

    @cached_property
    def tokens(self) -> PublicTokens | None:
        """Makes public tokens and reads them; None where they are not used."""
        if self.access.public_tokens is False or not self.secrets:
            return None
        return PublicTokens(self.secrets, used=self.app.used_tokens, clock=self.app.clock)

    async def configured(self) -> bool:
        """Whether anybody has said who may call: by a key, an admin, the host's own login or an issuer.

        Raises LedgerUnavailable.
        """
        if not self._configured:
            self._configured = await self.app.api_keys.any_credential()
        return self._configured

    def shows_credential(self, connection: HTTPConnection) -> bool:
        """Whether a request has something with it that says who calls, right or wrong."""
        return "authorization" in connection.headers or "access_token" in connection.query_params

    def redact_for(self, caller: Caller | None) -> Redact:
        """What this caller must not see of payloads, results, logs and errors."""
        if caller is not None and any(caller.may(scope) for scope in self.access.unredacted):
            return Redact.NONE
        return self.app.redact

    def _issuer_logins(self) -> IssuerLogins | None:
        if self.access.oidc is None:
            return None
        if not self.secrets:
            raise InvalidOption("expected a secret for logins by OpenID Connect: Access(secret=…), or TAURINE_SECRET")
        return IssuerLogins(self.access.oidc, keys=self.secrets, clock=self.app.clock)

    async def _who(self, connection: HTTPConnection) -> Caller | None:
        text = _bearer(connection.headers)
        if text is not None and text.startswith("taurine_"):
            if self._keys is None:
                raise Unauthenticated("API keys are not used here", challenge=_INVALID)
            try:
                return await self._keys.caller(text)
            except Unauthenticated as error:
                await self.refusals.note_key(text, error)
                raise
        if (caller := await self.cookies.caller(connection)) is not None:
            return caller
        if self.access.host_login is not None and (caller := await self.access.host_login(connection)) is not None:
            return caller
        if text is not None:
            raise Unauthenticated("this credential is not known here", challenge=_INVALID)
        if self._open_on_loopback and calls_from_here(connection) and not await self.configured():
            return _LOCAL
        return None

    def _token_of(self, connection: HTTPConnection) -> PublicToken | None:
        """The public token of a request: in the header, or, since a browser's EventSource and WebSocket send no headers
        of ours, in the query of what only reads.
        """
        text = _bearer(connection.headers)
        if text is None and connection.scope.get("method", "GET") == "GET":
            text = connection.query_params.get("access_token")
            if text is not None and not text.startswith(BEGINNING):
                raise Unauthenticated(
                    "expected access_token to be a public token; a key belongs into the header Authorization"
                )
        if text is None or not text.startswith(BEGINNING):
            return None
        if self.tokens is None:
            raise Unauthenticated("public tokens are not used here", challenge=_INVALID)
        return self.tokens.read(text)


def _bearer(headers: Mapping[str, str]) -> str | None:
    scheme, _, text = headers.get("authorization", "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None
