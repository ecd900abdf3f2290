"""`Access`: what an application says of who may call its API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

from starlette.requests import HTTPConnection

from taurine.errors import InvalidOption
from taurine.http.access.caller import SCOPES, Caller, Scope
from taurine.options import Seconds, to_seconds

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.http.access.gate import Gate
    from taurine.http.access.oidc import OpenIdConnect

__all__ = ["Access", "HostLogin"]

HostLogin: TypeAlias = Callable[[HTTPConnection], "Awaitable[Caller | None]"]
"""The login of the application that serves the API: who calls, or None for somebody that it does not know."""

_SHORTEST_SECRET = 32


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may call the API, and how a caller says who it is; `create_app(app, access=Access(…))`.

    keys: API keys, see `Taurine.api_keys`. Default: True.
    login: admins log in with a password and have a session, see `Taurine.admins`. Default: True.
    host_login: asked for whoever has shown nothing of ours: the login of the application that serves the API. Default:
    none.
    oidc: logins by an issuer of OpenID Connect, with the extra `oidc`. Default: none.
    public_tokens: signed tokens that last minutes and are bound to a job, a tag, a job type or a tenant. Default: True
    where there is a secret.
    secret: what public tokens and the steps of a login are signed with, 32 characters or more; a sequence for a change
    of it: the first signs, all are known.
    Default: the variable `TAURINE_SECRET`; in development one that is made in the application's `home`.
    open_on_loopback: as long as there is no key, no admin, no `host_login` and no `oidc`, whoever calls from this
    machine directly may do everything. Default: True in development, False in production.
    hosts: names that the API is reached under, besides those of loopback; `*.example.com` is every name below it, "*"
    any at all. Default: loopback alone.
    origins: other origins whose pages may call with a key or a token, such as "https://app.example.com". Default: none,
    so that no page of another origin may.
    unredacted: scopes whose callers see payloads, results and errors without redaction. Default: none, everybody sees
    them redacted.
    session_life, session_idle: a session ends so long after its login, and after its last use. Default: 12 hours, 1
    hour.
    secure_cookies: cookies are for https alone. Default: where the request came by https.
    heard_within: a key that was seen is known for so long without asking the database; so a revocation is heard within
    that. Default: 5 seconds; 0 asks each time.

    Raises InvalidOption.
    """

    keys: bool = True
    login: bool = True
    host_login: HostLogin | None = None
    oidc: OpenIdConnect | None = None
    public_tokens: bool | None = None
    secret: str | Sequence[str] | None = field(default=None, repr=False)
    open_on_loopback: bool | None = None
    hosts: Collection[str] = ()
    origins: Collection[str] = ()
    unredacted: Collection[Scope] = ()
    session_life: Seconds = timedelta(hours=12)
    session_idle: Seconds = timedelta(hours=1)
    secure_cookies: bool | None = None
    heard_within: Seconds = 5.0

    def __post_init__(self) -> None:
        for name in ("hosts", "origins", "unredacted"):
            if isinstance(getattr(self, name), str):
                raise InvalidOption(f"expected {name} to be a list, got a text")
        for scope in self.unredacted:
            if scope not in SCOPES:
                raise InvalidOption(f"expected unredacted to name scopes ({', '.join(SCOPES)}), got {scope!r:.40}")
        to_seconds(self.session_life, "session_life", minimum=1.0)
        to_seconds(self.session_idle, "session_idle", minimum=1.0)
        to_seconds(self.heard_within, "heard_within", maximum=60.0)
        for secret in self.secrets:
            if len(secret) < _SHORTEST_SECRET:
                raise InvalidOption(f"expected secret to have {_SHORTEST_SECRET} characters or more, got {len(secret)}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those that were given here, the one that signs first."""
        if self.secret is None:
            return ()
        return (self.secret,) if isinstance(self.secret, str) else tuple(self.secret)

    def gate(self, app: Taurine, *, answer_within: float = 0.9) -> Gate:
        """These rules, for one application. answer_within: seconds that a caller is looked for. Default: 0.9.

        Raises InvalidOption for what cannot hold for it, such as public tokens without a secret.
        """
        from taurine.http.access.gate import Gate

        return Gate(self, app, answer_within=answer_within)
