"""Public tokens: for browsers and others whom no key may be given.

They last minutes, and are bound to a job, a tag, a job type or a tenant.

A token is signed, and holds what it allows and who has made it, so that nobody acts under another's name; nothing is stored of it. One that may be used once has a row from its use
on until it has expired.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, cast

from taurine.clock import Clock
from taurine.errors import Forbidden, InvalidOption, Unauthenticated
from taurine.http.access.caller import Caller, Scope
from taurine.jobs.credentials.scopes import checked_scopes
from taurine.jobs.credentials.used_tokens import UsedTokens
from taurine.options import Seconds, to_seconds

__all__ = ["BEGINNING", "PublicToken", "PublicTokens"]

BEGINNING = "taurine_public_"
"""What every public token begins with."""

_SALT = "taurine public token"
_LONGEST_LIFE = 86_400.0

_LONGEST_NAME = 255
"""What a job's record holds of who has put it in. A key's name, of at most 200 characters, leaves room for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicToken:
    """What a token says. expires: wall seconds. once: it may be used once."""

    id: str
    caller: Caller
    expires: float
    once: bool


class PublicTokens:
    """Makes public tokens and reads them. secrets: the first signs, all are known; at least one."""

    def __init__(self, keys: Sequence[str], *, used: UsedTokens, clock: Clock) -> None:
        from itsdangerous import URLSafeSerializer

        self._used = used
        self._clock = clock
        # The last one signs there.
        self._serializer = URLSafeSerializer(
            list(reversed(keys)), salt=_SALT, signer_kwargs={"digest_method": sha256, "key_derivation": "hmac"}
        )

    def issue(
        self,
        *,
        scopes: Iterable[str] = ("read",),
        job_id: str | None = None,
        tag: str | None = None,
        job_type: str | None = None,
        tenant: str | None = None,
        expires_in: Seconds = 900.0,
        once: bool = False,
        name: str | None = None,
        issuer: Caller | None = None,
    ) -> str:
        """A new token, as text.

        scopes: "read" of what it is bound to; or, with `job_type`, "enqueue", to put in jobs of that type. job_id, tag,
        job_type: what it is bound to, one of them.
        tenant: the only one whose jobs it reaches; it may stand alone, for all of the tenant's. expires_in: seconds, up
        to a day. Default: 15 minutes.
        once: the first request counts, whatever comes of it, and a second one is refused; for "enqueue".
        issuer: who asks for it; a token never allows more than its issuer may. Default: the application itself, which
        may all. name: what it is for, without the word "of". Records, the audit and `authorize` know who uses the token
        as "public token <name> of <issuer>", of at most 255 characters. Default: none, so "public token of <issuer>".
        Raises InvalidOption, Forbidden.
        """
        allowed = checked_scopes(scopes)
        bounds = [bound for bound in (job_id, tag, job_type) if bound is not None]
        if len(bounds) > 1 or not (bounds or tenant):
            raise InvalidOption(
                "expected a public token to be bound to one of job_id, tag and job_type, or to a tenant"
            )
        if sorted(allowed) != ["enqueue" if job_type is not None else "read"]:
            raise InvalidOption('expected the scopes of a public token to be ["read"], or ["enqueue"] with a job_type')
        if once and job_type is None:
            raise InvalidOption("expected a token of one use to be bound to a job_type, which it puts in one job of")
        if issuer is not None:
            tenant = _within(issuer, allowed, tenant)
        issued_by = None if issuer is None else issuer.name
        _require_clear_name(name, issued_by)
        seconds = to_seconds(expires_in, "expires_in", minimum=1.0, maximum=_LONGEST_LIFE)
        said: dict[str, Any] = {
            "id": secrets.token_hex(8),
            "name": name,
            "of": issued_by,
            "scopes": sorted(allowed),
            "job": job_id,
            "tag": tag,
            "type": job_type,
            "tenant": tenant,
            "once": once or None,
            "until": self._clock.now() + seconds,
        }
        signed = self._serializer.dumps({word: value for word, value in said.items() if value is not None})
        return BEGINNING + str(signed)

    def read(self, text: str) -> PublicToken:
        """What a token says, if it was signed here and has not expired. Raises Unauthenticated."""
        from itsdangerous import BadData

        try:
            said = cast("dict[str, Any]", self._serializer.loads(text.removeprefix(BEGINNING)))
        except (BadData, UnicodeEncodeError):  # of halves of characters
            said = {}
        if not said or self._clock.now() >= said["until"]:
            raise Unauthenticated(
                "the public token is not one of ours, or has expired",
                challenge='Bearer realm="taurine", error="invalid_token"',
            )
        caller = Caller(
            name=_name_of(said.get("name"), said.get("of")),
            scopes=cast("frozenset[Scope]", frozenset(said["scopes"])),
            tenant=said.get("tenant"),
            job_id=said.get("job"),
            tag=said.get("tag"),
            job_type=said.get("type"),
            issuer=said.get("of"),
        )
        return PublicToken(id=said["id"], caller=caller, expires=said["until"], once=said.get("once", False))

    async def use(self, token: PublicToken) -> None:
        """Let a token that may be used once be used. Raises Unauthenticated where it was, LedgerUnavailable."""
        if not await self._used.use(token.id, expires=token.expires):
            raise Unauthenticated("the public token was used before, and may be used once")


def _name_of(name: str | None, issuer: str | None) -> str:
    """Who uses a token, as the audit names it."""
    words = "public token" if name is None else f"public token {name}"
    return words if issuer is None else f"{words} of {issuer}"


def _require_clear_name(name: str | None, issuer: str | None) -> None:
    """Raise InvalidOption for a name after which it would not be clear who has made the token."""
    if name is not None and not _is_clear(name):
        raise InvalidOption(
            f'expected the name of a public token to be of words other than "of", behind which its issuer stands, got {name!r:.80}'
        )
    whole = _name_of(name, issuer)
    if len(whole) > _LONGEST_NAME or not whole.isprintable():
        raise InvalidOption(
            f"expected the name of a public token and of its issuer to be printable, and to make up {_LONGEST_NAME} characters at most, got {whole!r:.80}"
        )


def _is_clear(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and "of" not in name.casefold().split()


def _within(issuer: Caller, scopes: frozenset[Scope], tenant: str | None) -> str | None:
    """The tenant of a token that allows no more than its issuer may. Raises Forbidden."""
    if issuer.bound:
        raise Forbidden("a public token cannot make another")
    for scope in sorted(scopes):
        if not issuer.may(scope):
            raise Forbidden(
                f"{issuer.name!r:.200} may not make a token with the scope {scope!r}, which it does not have"
            )
    if issuer.tenant is None:
        return tenant
    if tenant not in (None, issuer.tenant):
        raise Forbidden(f"{issuer.name!r:.200} may make tokens for its own tenant alone")
    return issuer.tenant
