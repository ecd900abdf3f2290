"""The hook that says who may enqueue (SEED-001, SEED-019, SEED-230)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

from support.desk import declare_triage, recorded, ticket
from taurine import AccessRequest, NotAuthorized, Taurine


async def test_what_the_hook_is_asked(app_factory: Callable[..., Taurine]) -> None:
    asked: list[AccessRequest] = []

    async def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return True

    await declare_triage(app_factory(authorize=authorize)).enqueue(ticket(), user="ann")
    assert asked == [
        AccessRequest(action="enqueue", job_type="ticket.triage", tenant="acme", user="ann", payload=ticket())
    ]


@pytest.mark.parametrize("answer", [True, None])
async def test_anything_but_false_allows(app_factory: Callable[..., Taurine], answer: bool | None) -> None:
    app = app_factory(authorize=lambda request: answer)
    await declare_triage(app).enqueue(ticket())
    assert len(await recorded(app)) == 1


async def test_false_refuses(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory(authorize=lambda request: False)
    with pytest.raises(NotAuthorized, match=r"ann may not enqueue 'ticket\.triage'"):
        await declare_triage(app).enqueue(ticket(), user="ann")
    assert await recorded(app) == []


async def test_an_error_of_the_hook_refuses(app_factory: Callable[..., Taurine]) -> None:
    """A hook that cannot tell must not let through."""

    def authorize(request: AccessRequest) -> bool:
        raise ConnectionError("the directory is away")

    app = app_factory(authorize=authorize)
    with pytest.raises(ConnectionError):
        await declare_triage(app).enqueue(ticket())
    assert await recorded(app) == []


class _Order(BaseModel):
    tenant_id: str = Field(validation_alias="tenant", serialization_alias="tenant")


class _Trimmed(BaseModel):
    model_config = {"str_strip_whitespace": True}
    tenant_id: str


@pytest.mark.parametrize(
    ("payload_type", "payload", "claimed"),
    [
        (_Order, {"tenant": "umbrella", "tenant_id": "acme"}, "acme"),
        (_Trimmed, {"tenant_id": " umbrella"}, " umbrella"),
    ],
)
async def test_the_tenant_of_the_checked_payload_is_asked_for(
    app_factory: Callable[..., Taurine], payload_type: type[BaseModel], payload: Any, claimed: str
) -> None:
    """What an unchecked payload seems to say of its tenant allows nothing for the tenant that it is of."""
    asked: list[str | None] = []

    def authorize(request: AccessRequest) -> bool:
        asked.append(request.tenant)
        return request.tenant != "umbrella"

    app = app_factory(authorize=authorize)
    order = app.declare("order.ship", payload_type, tenant="{tenant_id}")
    with pytest.raises(NotAuthorized):
        await order.enqueue(payload)
    assert asked == [claimed, "umbrella"]
    assert await recorded(app) == []


async def test_each_of_many_is_asked_for(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory(authorize=lambda request: request.tenant != "umbrella")
    with pytest.raises(NotAuthorized):
        await declare_triage(app).enqueue_many([ticket(1), ticket(2, tenant="umbrella")])
    assert await recorded(app) == []
