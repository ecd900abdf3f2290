"""What a route says that answers anybody, and tells more to those who may read."""

from __future__ import annotations

from typing import Any

from fastapi import Depends
from starlette.requests import HTTPConnection

from taurine.errors import Unauthenticated
from taurine.http.access.caller import Caller, Scope

__all__ = ["optional_caller"]


def optional_caller(scope: Scope) -> Any:
    """A dependency that gives the caller, or None where nobody says who calls.

    What is wrong is refused all the same, as is a caller without the scope.
    """

    async def caller(connection: HTTPConnection) -> Caller | None:
        gate = connection.app.state.api.gate
        try:
            return await gate.caller(connection, scope)
        except Unauthenticated:
            if gate.shows_credential(connection):
                raise
            return None

    return Depends(caller)
