"""Callers whom the tests make up: what a host application's own login would say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import HTTPConnection

from taurine.http.access.caller import Caller, Scope

__all__ = ["as_caller", "of_whoever_says"]


async def of_whoever_says(connection: HTTPConnection) -> Caller | None:
    """The caller that a test names in its headers."""
    name = connection.headers.get("x-name")
    if name is None:
        return None
    scopes: Any = frozenset(connection.headers.get("x-scopes", "").split())
    return Caller(name=name, scopes=scopes, tenant=connection.headers.get("x-tenant"))


def as_caller(*scopes: Scope, name: str = "ada", tenant: str | None = None) -> Mapping[str, str]:
    """Headers of a request by such a caller."""
    said = {"x-name": name, "x-scopes": " ".join(scopes)}
    return said if tenant is None else said | {"x-tenant": tenant}
