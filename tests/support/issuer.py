"""A small issuer of OpenID Connect for tests, on loopback: somebody else's service, which lets in whoever the test
says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import secrets
import socket
from collections.abc import AsyncGenerator, Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import uvicorn
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["Issuer", "issuer"]

CLIENT = ("taurine-tests", "a secret of the client's")


class Issuer:
    """url: its issuer. person: the claims of who logs in next. change: what is done to an identity token's claims
    before it is signed. clock: its time.
    """

    def __init__(self, url: str, now: Callable[[], float]) -> None:
        self.url = url
        self.now = now
        self.person: dict[str, Any] = {"sub": "1", "email": "ada@example.com", "email_verified": True}
        self.metadata: dict[str, Any] = {}
        self.be_honest()
        self.down = False
        self.asked: list[str] = []
        self.new_key()
        self._codes: dict[str, dict[str, str]] = {}

    def be_honest(self) -> None:
        """Make identity tokens as they should be."""
        self.change: Callable[[dict[str, Any]], object] = lambda _: None
        self.header: dict[str, Any] = {}
        self.signs: Any = None

    def new_key(self) -> None:
        """Sign with another key from now on."""
        self.key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._describe),
                Route("/keys", self._keys),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def log_in(self, authorization_url: str, **answer: str) -> str:
        """What the browser of somebody who logs in is sent back to."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(authorization_url).query).items()}
        assert authorization_url.startswith(f"{self.url}/authorize?"), authorization_url
        assert query["response_type"] == "code"
        assert query["code_challenge_method"] == "S256"
        code = secrets.token_hex(8)
        self._codes[code] = query
        return f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], **answer})}"

    async def _describe(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        if self.down:
            return Response(status_code=500)
        ends = {name: f"{self.url}/{path}" for name, path in (("jwks_uri", "keys"), ("token_endpoint", "token"))}
        return JSONResponse(
            {"issuer": self.url, "authorization_endpoint": f"{self.url}/authorize", **ends, **self.metadata}
        )

    async def _keys(self, request: Request) -> Response:
        self.asked.append(request.url.path)
        return JSONResponse({"keys": [self.key.as_dict(private=False, alg="ES256", use="sig")]})

    async def _token(self, request: Request) -> Response:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        begun = self._codes.pop(form["code"], None)
        basic = base64.b64encode(":".join(CLIENT).encode()).decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=")
        right = request.headers.get("authorization") == f"Basic {basic}"
        if begun is None or not right or proof.decode() != begun["code_challenge"]:
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(self.now())
        claims = {
            "iss": self.url,
            "aud": CLIENT[0],
            "iat": now,
            "exp": now + 300,
            "nonce": begun["nonce"],
            **self.person,
        }
        self.change(claims)
        header = {"alg": "ES256", "kid": self.key.kid} | self.header
        signed = jwt.encode(header, claims, self.signs or self.key, algorithms=[str(header["alg"])])
        return JSONResponse({"access_token": "x", "token_type": "Bearer", "id_token": signed})


def shared_secret() -> OctKey:
    """A key that who knows the client's secret has too."""
    return OctKey.import_key(CLIENT[1] * 2)


@contextlib.asynccontextmanager
async def issuer(now: Callable[[], float]) -> AsyncGenerator[Issuer]:
    """An issuer that answers for the length of the block."""
    listening = socket.create_server(("127.0.0.1", 0))
    made = Issuer(f"http://127.0.0.1:{listening.getsockname()[1]}", now)
    server = uvicorn.Server(uvicorn.Config(made.app(), log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue] - of older versions
    serving = asyncio.create_task(server._serve([listening]))
    try:
        yield made
    finally:
        server.should_exit = True
        await serving
        listening.close()
