"""`/v1/login/oidc`: logging in by an issuer of OpenID Connect, and coming back from it."""

from __future__ import annotations

from typing import cast
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from taurine.errors import Forbidden
from taurine.http.access.oidc import IssuerLogins
from taurine.http.api import Api, api_of
from taurine.http.paths import link

__all__ = ["router"]

router = APIRouter(prefix="/v1/login/oidc", tags=["access"])

_COOKIE = "taurine_login"
_MINUTES = 10


@router.get("", status_code=303, summary="Log in by the issuer", response_class=RedirectResponse)
async def begin(request: Request, after: str = "") -> Response:
    """Send the browser to the issuer. `after` is the path, on this host, to come back to at the end."""
    api, logins = _logins(request)
    begun = await logins.begin(_redirect_url(request, logins), after=_local(request, after))
    response = RedirectResponse(begun.url, status_code=303)
    response.set_cookie(
        _COOKIE,
        begun.cookie,
        max_age=_MINUTES * 60,
        path=link(request, "v1", "login", "oidc"),
        secure=api.gate.cookies.is_secure(request),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get("/callback", status_code=303, summary="Come back from the issuer", response_class=RedirectResponse)
async def finish(request: Request) -> Response:
    """Begin the session of whoever the issuer stands for."""
    api, logins = _logins(request)
    caller, after = await logins.finish(
        request.cookies.get(_COOKIE), request.query_params, _redirect_url(request, logins)
    )
    if caller.bound:
        raise Forbidden("a session cannot be bound to one job, tag or job type; `who` has to give a caller who is not")
    await api.open()
    token = await api.app.sessions.open(
        caller.name,
        source="oidc",
        scopes=caller.scopes,
        tenant=caller.tenant,
        life=api.gate.access.session_life,
        address=request.client.host if request.client is not None else None,
    )
    response = RedirectResponse(after, status_code=303)
    response.delete_cookie(_COOKIE, path=link(request, "v1", "login", "oidc"))
    api.gate.cookies.give(request, response, token)
    return response


def _logins(request: Request) -> tuple[Api, IssuerLogins]:
    api = api_of(request)
    if (logins := api.gate.issuer) is None:
        raise HTTPException(404, "logins by OpenID Connect are not used here")
    return api, logins


def _redirect_url(request: Request, logins: IssuerLogins) -> str:
    if logins.options.redirect_url is not None:
        return logins.options.redirect_url
    base = f"{request.url.scheme}://{request.headers['host']}"  # the layer in front has it on its list
    return base + link(request, "v1", "login", "oidc", "callback")


def _local(request: Request, after: str) -> str:
    """A path of this host: a login must not send people to wherever a link says."""
    parts = urlsplit(after)
    plain = after.startswith("/") and not after.startswith(("//", "/\\")) and after.isprintable() and "\\" not in after
    if plain and not parts.scheme and not parts.netloc:
        return after
    return cast("str", request.scope.get("root_path", "")) + "/"
