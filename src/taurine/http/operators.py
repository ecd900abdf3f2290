"""Who runs an application's affairs: callers who may look at, or change, what belongs to no tenant, such as its queues and schedules."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import HTTPConnection

from taurine.errors import Forbidden
from taurine.http.access.caller import Caller, Scope
from taurine.http.access.requires import requires

__all__ = ["Operator", "Query", "Reader", "Request", "TenantOperator", "TenantReader", "Word"]

Word = Annotated[str, Field(min_length=1, max_length=1024)]
"""A name or an id in a query or a body."""


class Request(BaseModel):
    """A body: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


class Query(BaseModel):
    """The parameters of a query: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid")


def _without_tenant(scope: Scope) -> Any:
    async def caller(connection: HTTPConnection) -> Caller:
        found: Caller = await connection.app.state.access.caller(connection, scope)
        if found.tenant is not None:
            # Counts and names of all tenants' jobs would be in the answer.
            raise Forbidden(f"{found.name!r:.200} may not do this: it is for callers who belong to no tenant")
        return found

    return Depends(caller)


TenantReader = Annotated[Caller, requires("read")]
"""A caller who may look, at the affairs of its own tenant if it has one."""

TenantOperator = Annotated[Caller, requires("operate")]
"""A caller who may change things, those of its own tenant if it has one."""

Reader = Annotated[Caller, _without_tenant("read")]
"""A caller who may look at what belongs to no tenant. Others get 403."""

Operator = Annotated[Caller, _without_tenant("operate")]
"""A caller who may change what belongs to no tenant. Others get 403."""
