"""The support desk that the tests of enqueueing work on: tickets, and what is made of them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from taurine.app import Taurine
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.records import JobRecord

__all__ = ["Ticket", "Triage", "declare_triage", "recorded", "ticket"]


class Ticket(BaseModel):
    tenant_id: str
    ticket_id: str
    summary: str = Field(min_length=1)


class Triage(BaseModel):
    category: str
    priority: int


def ticket(number: int | str = 7, *, tenant: str = "acme", summary: str = "it does not print") -> Ticket:
    return Ticket(tenant_id=tenant, ticket_id=str(number), summary=summary)


def declare_triage(app: Taurine, **options: Any) -> JobType[Ticket, Triage]:
    """One job for each ticket of a tenant, on the queue `ticket-triage`."""
    rules: dict[str, Any] = {
        "queue": "ticket-triage",
        "job_id": "ticket-triage:{tenant_id}:{ticket_id}",
        "tenant": "{tenant_id}",
    }
    return app.declare("ticket.triage", Ticket, Triage, **(rules | options))


async def recorded(app: Taurine) -> list[JobRecord]:
    """All records of the ledger."""
    return [record async for record in app.list()]
