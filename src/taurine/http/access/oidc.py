"""Logins by an issuer of OpenID Connect: the extra `oidc`, which stands on Authlib.

The way is the authorization code with PKCE. What belongs together is held together by a signed cookie of ten minutes:
the state, the nonce and the verifier of one login. An identity token counts if the issuer's own keys signed it, with an
algorithm of public keys, for this client and this nonce, and it has not expired.
"""

from __future__ import annotations

import hmac
import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

from taurine.errors import Forbidden, InvalidOption, Unauthenticated
from taurine.http.access.caller import Caller
from taurine.http.access.loopback import is_loopback
from taurine.http.problems import Refusal
from taurine.jobs.credentials.scopes import scopes_of

if TYPE_CHECKING:
    from taurine.clock import Clock

__all__ = ["BeginningLogin", "IssuerLogins", "IssuerUnavailable", "OpenIdConnect", "Who"]

Who: TypeAlias = "Callable[[Mapping[str, Any]], Caller | Awaitable[Caller | None] | None]"
"""From the claims of an identity token to a caller; None for somebody who may not log in."""

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Those of public keys. With the others whoever knows what is public could sign."""

_BEGUN_SECONDS = 600.0
_ANSWER_SECONDS = 10.0
_KNOWN_SECONDS = 3600.0
_LEEWAY_SECONDS = 60


class IssuerUnavailable(Refusal):
    """The issuer does not answer as it should."""

    status, code, title = 503, "issuer_unavailable", "The issuer of logins does not answer as it should"


@dataclass(frozen=True, kw_only=True)
class OpenIdConnect:
    """An issuer, and what its people may do here.

    issuer: its URL, exactly as it calls itself; https, unless it is on this machine. client_id, client_secret: what it
    knows this API as.
    domains: the role ("viewer", "operator", "admin") of people whose confirmed e-mail address is of exactly this
    domain: {"example.com": "viewer"}.
    who: in place of `domains`, a function from the claims to a caller, with its tenant if it has one; may be async.
    scopes: what is asked for. Default: openid, e-mail and profile. redirect_url: where the issuer sends people back to,
    the public URL of `…/v1/login/oidc/callback`.
    Default: worked out from the request. Raises InvalidOption.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    domains: Mapping[str, str] = field(default_factory=dict[str, str])
    who: Who | None = None
    scopes: Sequence[str] = ("openid", "email", "profile")
    redirect_url: str | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.issuer)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
            raise InvalidOption(f"expected issuer to be an https URL, got {self.issuer!r:.100}")
        if bool(self.domains) == (self.who is not None):
            raise InvalidOption(
                "expected OpenIdConnect to have either domains or who: without them everybody whom the issuer knows would be let in"
            )
        for domain, role in self.domains.items():
            scopes_of(role)
            if not domain or domain != domain.lower() or any(letter in domain for letter in "@*/ "):
                raise InvalidOption(f"expected a domain in small letters, such as 'example.com', got {domain!r:.80}")
        if "openid" not in self.scopes:
            raise InvalidOption('expected scopes to hold "openid"')


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginningLogin:
    """A login that has begun. url: of the issuer, where the browser goes. cookie: what it keeps until it comes back."""

    url: str
    cookie: str


class IssuerLogins:
    """Logins by one issuer. keys: the secrets of the application, at least one. Raises InvalidOption without the extra."""

    def __init__(self, options: OpenIdConnect, *, keys: Sequence[str], clock: Clock) -> None:
        try:
            from authlib.integrations.httpx_client import AsyncOAuth2Client
        except ImportError:
            raise InvalidOption('logins by OpenID Connect need the extra `oidc`: pip install "taurine[oidc]"') from None
        from itsdangerous import URLSafeSerializer

        self._options = options
        self._clock = clock
        self._new_client: Any = AsyncOAuth2Client
        self._serializer = URLSafeSerializer(
            list(reversed(keys)),
            salt="taurine login",
            signer_kwargs={"digest_method": sha256, "key_derivation": "hmac"},
        )
        self._known: tuple[float, dict[str, Any]] | None = None

    @property
    def options(self) -> OpenIdConnect:
        """Its options."""
        return self._options

    async def begin(self, redirect_url: str, *, after: str) -> BeginningLogin:
        """Begin a login.

        redirect_url: where the issuer sends the browser back to. after: the path to go to at the end. Raises
        IssuerUnavailable.
        """
        metadata = await self._metadata()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        async with self._client(redirect_url) as client:
            url, _ = client.create_authorization_url(
                metadata["authorization_endpoint"], state=state, nonce=nonce, code_verifier=verifier
            )
        said = {
            "state": state,
            "nonce": nonce,
            "verifier": verifier,
            "after": after,
            "until": self._clock.now() + _BEGUN_SECONDS,
        }
        return BeginningLogin(url=url, cookie=str(self._serializer.dumps(said)))

    async def finish(self, cookie: str | None, query: Mapping[str, str], redirect_url: str) -> tuple[Caller, str]:
        """Who has logged in, and the path to go to. query: of the request with which the browser came back.

        Raises Unauthenticated for a login that is not the one that this browser has begun, or that the issuer does not
        stand for; Forbidden for somebody who may not; IssuerUnavailable.
        """
        begun = self._begun(cookie)
        if begun is None or not hmac.compare_digest(str(begun["state"]).encode(), query.get("state", "").encode()):
            raise _refused("it is not the one that this browser has begun within ten minutes")
        if query.get("iss") not in (None, self._options.issuer):
            raise _refused("another issuer has answered")
        if not (code := query.get("code")):
            raise _refused("the issuer has not let anybody in")
        token = await self._token(code, str(begun["verifier"]), redirect_url)
        claims = await self._claims(token, str(begun["nonce"]))
        caller = await self._who(claims)
        if caller is None:
            raise Forbidden("the issuer knows who this is, and they may not do anything here")
        return caller, str(begun["after"])

    def _begun(self, cookie: str | None) -> dict[str, Any] | None:
        from itsdangerous import BadData

        try:
            begun = cast("dict[str, Any]", self._serializer.loads(cookie or ""))
        except BadData:
            return None
        return begun if self._clock.now() < begun["until"] else None

    async def _token(self, code: str, verifier: str, redirect_url: str) -> Mapping[str, Any]:
        from authlib.integrations.httpx_client import OAuthError
        from httpx2 import HTTPError

        metadata = await self._metadata()
        try:
            async with self._client(redirect_url) as client:
                return await client.fetch_token(
                    metadata["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=verifier
                )
        except OAuthError:
            raise _refused("the issuer does not know its code") from None
        except (HTTPError, ValueError):
            raise IssuerUnavailable("the issuer gave no answer for the code of a login") from None

    async def _claims(self, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        from authlib.oidc.core import CodeIDToken
        from joserfc.errors import InvalidKeyIdError, JoseError

        try:
            text = str(token["id_token"])
            try:
                decoded = self._decode(text, await self._metadata())
            except InvalidKeyIdError:  # the issuer has other keys by now
                decoded = self._decode(text, await self._metadata(afresh=True))
            own: Any = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self._options.issuer},
                    "aud": {"essential": True, "value": self._options.client_id},
                },
                {"nonce": nonce, "client_id": self._options.client_id, "access_token": token.get("access_token")},
            )
            own.validate(now=round(self._clock.now()), leeway=_LEEWAY_SECONDS)
        except (JoseError, KeyError, ValueError, TypeError):
            raise _refused("its identity token does not hold") from None
        return cast("Mapping[str, Any]", own)

    def _decode(self, text: str, metadata: Mapping[str, Any]) -> Any:
        from joserfc import jwt
        from joserfc.jwk import KeySet

        keys = KeySet.import_key_set(metadata["jwks"])
        return jwt.decode(text, keys, algorithms=list(_ALGORITHMS))

    async def _who(self, claims: Mapping[str, Any]) -> Caller | None:
        if self._options.who is not None:
            answer = self._options.who(claims)
            return await answer if inspect.isawaitable(answer) else answer
        address = claims.get("email")
        if not isinstance(address, str) or claims.get("email_verified") is not True:
            return None
        # The whole domain, and nothing that merely begins or ends like it.
        name, at, domain = address.rpartition("@")
        role = self._options.domains.get(domain.lower())
        if not (name and at) or role is None:
            return None
        return Caller(name=address, scopes=scopes_of(role))

    async def _metadata(self, *, afresh: bool = False) -> dict[str, Any]:
        """What the issuer says of itself, with its keys; remembered for an hour."""
        from httpx2 import HTTPError

        now = self._clock.monotonic()
        if self._known is not None and now < self._known[0] and not afresh:
            return self._known[1]
        try:
            async with self._client("") as client:
                where = f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration"
                metadata = await self._fetch(client, where)
                if metadata.get("issuer") != self._options.issuer:
                    raise IssuerUnavailable("the issuer calls itself by another name than Access has")
                metadata["jwks"] = await self._fetch(client, metadata["jwks_uri"])
        except (HTTPError, ValueError, KeyError):
            raise IssuerUnavailable(
                "the issuer does not say how to log in; the server's settings name another one, or it is down"
            ) from None
        self._known = (now + _KNOWN_SECONDS, metadata)
        return metadata

    @staticmethod
    async def _fetch(client: Any, url: str) -> dict[str, Any]:
        answer = await client.request("GET", url, withhold_token=True)
        answer.raise_for_status()
        return cast("dict[str, Any]", answer.json())

    def _client(self, redirect_url: str) -> Any:
        return self._new_client(
            client_id=self._options.client_id,
            client_secret=self._options.client_secret,
            token_endpoint_auth_method="client_secret_basic" if self._options.client_secret else "none",
            scope=" ".join(self._options.scopes),
            redirect_uri=redirect_url,
            code_challenge_method="S256",
            timeout=_ANSWER_SECONDS,
        )


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(f"the login was refused: {why}; begin again", challenge='Session realm="taurine"')
