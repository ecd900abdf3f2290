"""`/v1/keys`: the API keys, for callers who may say who else may call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from taurine.errors import UnknownName
from taurine.http.access.caller import SCOPES, Scope
from taurine.http.calls import AdminCall
from taurine.http.incoming import Body, Cursor, Parameters, Word
from taurine.http.paths import InPath
from taurine.http.problems import Refusal
from taurine.http.representations import iso, json_response
from taurine.jobs.credentials.api_keys import ApiKey

__all__ = ["router"]

router = APIRouter(prefix="/v1/keys", tags=["access"])


class KeyUnknown(Refusal):
    """There is no such key, as far as this caller can tell."""

    status, code, title = 404, "key_not_found", "There is no such API key"


class KeyRequest(Body):
    """What a key is to be."""

    model_config = Body.model_config | {
        "json_schema_extra": {"examples": [{"name": "web shop", "scopes": ["enqueue", "read"]}]}
    }

    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES))
    tenant: Annotated[Word, Field(max_length=255)] | None = None
    expires_in: float | None = Field(default=None, gt=0, le=3_155_760_000, description="Seconds. Default: never.")


class KeyQuery(Parameters):
    """A page of keys."""

    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the page before.")
    limit: int = Field(default=100, ge=1, le=500)


class Key(BaseModel):
    """A key, without what is secret of it. `last_used_at` is exact to about a minute."""

    id: str
    name: str
    scopes: list[Scope]
    tenant: str | None
    created_at: datetime
    created_by: str | None
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewKey(BaseModel):
    """A key that was just made. `text` is the key, which is not shown again."""

    text: str
    key: Key


class KeyList(BaseModel):
    """Keys, the newest first. `next_cursor` is for the page after this one; null on the last."""

    items: list[Key]
    next_cursor: str | None


@router.get("", response_model=KeyList, summary="List API keys")
async def list_keys(query: Annotated[KeyQuery, Query()], call: AdminCall) -> Response:
    """The keys that the caller may know of, expired and revoked ones included."""
    page = await call.app.api_keys.list(tenant=call.tenant, **query.model_dump())
    return json_response({"items": [*map(_key, page)], "next_cursor": page.next_cursor})


@router.post("", response_model=NewKey, status_code=201, summary="Make an API key")
async def make_key(wanted: KeyRequest, call: AdminCall) -> Response:
    """Make a key. It is in the answer and nowhere else. A caller of a tenant makes keys of that tenant."""
    made = await call.app.api_keys.create(
        wanted.name,
        scopes=wanted.scopes,
        tenant=call.tenant_for(wanted.tenant),
        expires_in=wanted.expires_in,
        user=call.user,
    )
    return json_response({"text": made.text, "key": _key(made.key)}, 201)


@router.delete("/{key_id}", response_model=Key, summary="Revoke an API key")
async def revoke_key(key_id: InPath, call: AdminCall) -> Response:
    """End a key for good. Processes that have just seen it let it pass for some seconds more."""
    try:
        revoked = await call.app.api_keys.revoke(key_id, tenant=call.tenant, user=call.user)
    except UnknownName as error:
        raise KeyUnknown(str(error)) from None
    return json_response(_key(revoked))


def _key(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "tenant": key.tenant,
        "created_at": _time(key.created),
        "created_by": key.created_by,
        "expires_at": _time(key.expires),
        "last_used_at": _time(key.last_used),
        "revoked_at": _time(key.revoked),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else iso(datetime.fromtimestamp(at, UTC))
