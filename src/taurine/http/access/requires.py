"""What a route says of its callers: `caller: Annotated[Caller, requires("read")]`.

A caller that is bound, as those with a public token may be, reaches only what it is bound to. Which that is follows from the parameters in the route's path, so their names are
part of this contract: `job_id` is a job, `tag` a tag, `type` a job type that something is put in of. Every other route refuses a bound caller.
"""

from __future__ import annotations

from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from taurine.errors import Unauthenticated
from taurine.http.access.caller import Caller, Scope

__all__ = ["known", "optional_caller", "requires"]


def requires(scope: Scope, *, heeds_tag: bool = False) -> Any:
    """A dependency that gives the caller of a request or WebSocket. Raises Unauthenticated (401) without one, Forbidden (403) for one without the scope.

    heeds_tag: the route shows only what has the tag of its query's `tag`, so that a caller who is bound to that tag may use it.
    """

    async def caller(connection: HTTPConnection) -> Caller:
        return await connection.app.state.access.caller(connection, scope, heeds_tag=heeds_tag)

    return Depends(caller)


def known() -> Any:
    """A dependency that gives whoever is known to call, whatever they may do. Raises Unauthenticated."""

    async def caller(connection: HTTPConnection) -> Caller:
        return await connection.app.state.access.caller(connection, None)

    return Depends(caller)


def optional_caller(scope: Scope) -> Any:
    """A dependency that gives the caller, or None where nobody says who calls. What is wrong is refused all the same, as is a caller without the scope."""

    async def caller(connection: HTTPConnection) -> Caller | None:
        gate = connection.app.state.access
        try:
            return await gate.caller(connection, scope)
        except Unauthenticated:
            if gate.shows_credential(connection):
                raise
            return None

    return Depends(caller)
