"""`/v1/tokens`: short-lived public tokens for browsers, see `taurine.http.access.public_tokens`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from taurine.http.calls import OperateCall
from taurine.http.incoming import Body, Word
from taurine.http.representations import iso, json_response

__all__ = ["router"]

router = APIRouter(prefix="/v1/tokens", tags=["access"])


class TokenRequest(Body):
    """What a token is to allow. It is bound to one of `job_id`, `tag` and `job_type`, or to a tenant alone."""

    model_config = Body.model_config | {"json_schema_extra": {"examples": [{"job_id": "invite:ada"}]}}

    scopes: list[Literal["read", "enqueue"]] | None = Field(
        default=None, max_length=2, description='["read"], or with `job_type` ["enqueue"]. Default: the one that fits.'
    )
    job_id: Word | None = None
    tag: Word | None = None
    job_type: Word | None = None
    tenant: Word | None = None
    expires_in: float = Field(default=900.0, ge=1, le=86_400, description="Seconds.")
    once: bool = Field(default=False, description="With `job_type`: the second use is refused.")
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description='What it is for, without the word "of". The audit and the records of jobs name who uses it "public token NAME of CALLER", by the caller who has made it; without a name "public token of CALLER".',
    )


class TokenAnswer(BaseModel):
    """A token. It cannot be taken back before it expires."""

    token: str = Field(examples=["taurine_public_…"])
    expires_at: datetime


@router.post("", response_model=TokenAnswer, status_code=201, summary="Make a public token")
async def make_token(wanted: TokenRequest, call: OperateCall) -> Response:
    """A token that a browser may have: it allows no more than the caller may, and lasts minutes."""
    tokens = call.api.gate.tokens
    if tokens is None:
        raise HTTPException(404, "public tokens are not used here: they need a `secret` of Access, or TAURINE_SECRET")
    given = wanted.model_dump(exclude={"scopes"})
    scopes = wanted.scopes or (["enqueue"] if wanted.job_type is not None else ["read"])
    if wanted.job_type is not None:
        call.app.catalog.declared(wanted.job_type)
    token = tokens.issue(**given, scopes=scopes, issuer=call.caller)
    expires = datetime.fromtimestamp(call.app.clock.now() + wanted.expires_in, UTC)
    return json_response({"token": token, "expires_at": iso(expires)}, 201)
