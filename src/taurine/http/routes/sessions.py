"""`/v1/session`: logging in with a password, logging out, and asking who one is."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field, SecretStr
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taurine.http.access.caller import Caller, Scope
from taurine.http.api import api_of
from taurine.http.calls import KnownCall
from taurine.http.incoming import Body
from taurine.http.representations import json_response

__all__ = ["WhoAmI", "router"]

router = APIRouter(prefix="/v1/session", tags=["access"])

_HASHING = 5.0
"""Seconds more: passwords are slow to check, on purpose, and wait for each other."""


class Login(Body):
    """A name and its password."""

    name: str = Field(min_length=1, max_length=200, examples=["ada"])
    password: SecretStr = Field(min_length=1, max_length=1024)


class WhoAmI(BaseModel):
    """Who calls, and what they may do."""

    name: str
    scopes: list[Scope]
    tenant: str | None = Field(description="The only tenant whose jobs there are for this caller; null for all.")
    job_id: str | None = Field(description="What a public token is bound to.")
    tag: str | None
    job_type: str | None


@router.post("", response_model=WhoAmI, summary="Log in")
async def log_in(request: Request, login: Login) -> Response:
    """Begin a session, with a cookie that scripts cannot read.

    Tries are limited for each name and each address: 429 with Retry-After says when there is another.
    """
    api = api_of(request)
    admins = api.gate.admins
    if admins is None:
        raise HTTPException(404, "logins with a password are not used here")
    await api.open()
    address = request.client.host if request.client is not None else None
    async with api.in_time(_HASHING):
        person = await admins.check(login.name, login.password.get_secret_value(), address=address)
        token = await api.app.sessions.open(
            person.name,
            source="password",
            scopes=person.scopes,
            tenant=person.tenant,
            life=api.gate.access.session_life,
            address=address,
        )
        if (before := api.gate.cookies.token_of(request)) is not None:
            await api.app.sessions.close(before)
    response = json_response(_who(Caller(name=person.name, scopes=person.scopes, tenant=person.tenant)))
    api.gate.cookies.give(request, response, token)
    return response


@router.get("", response_model=WhoAmI, summary="Ask who one is")
async def who_am_i(call: KnownCall) -> Response:
    """Who calls, by whatever credential, and what they may do."""
    return json_response(_who(call.caller))


@router.delete("", status_code=204, summary="Log out")
async def log_out(request: Request, call: KnownCall) -> Response:
    """End the session, in all processes at once. A caller with a key has none, and nothing happens."""
    cookies = call.api.gate.cookies
    if (token := cookies.token_of(request)) is not None:
        await call.app.sessions.close(token)
    response = Response(status_code=204)
    cookies.take(request, response)
    return response


def _who(caller: Caller) -> dict[str, object]:
    return {
        "name": caller.name,
        "scopes": sorted(caller.scopes),
        "tenant": caller.tenant,
        "job_id": caller.job_id,
        "tag": caller.tag,
        "job_type": caller.job_type,
    }
