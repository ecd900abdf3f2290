"""Lesson 1: a job type is a name, a payload, a result and rules, declared once."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taurine import CatalogError, Context, Retry, Taurine


class Ticket(BaseModel):
    tenant_id: str
    ticket_id: str
    summary: str = Field(min_length=1)


async def test_a_function_becomes_a_job_type(app: Taurine) -> None:
    """The payload's and the result's types are read from the function."""

    @app.job("ticket.triage", queue="ticket-triage", job_id="triage:{tenant_id}:{ticket_id}", tenant="{tenant_id}")
    async def triage(ticket: Ticket) -> str:
        return "billing" if "invoice" in ticket.summary else "other"

    assert (triage.name, triage.queue) == ("ticket.triage", "ticket-triage")
    assert [job_type.name for job_type in app.catalog] == ["ticket.triage"]


async def test_calling_it_runs_it_right_here(app: Taurine) -> None:
    """No queue, no record: it is still the function, which is how its logic is tested."""

    @app.job("word.shout")
    async def shout(word: str) -> str:
        return word.upper()

    assert await shout("moo") == "MOO"


async def test_a_process_that_only_enqueues_declares_without_the_function(app: Taurine) -> None:
    """The worker's module attaches it, so an API need not import what only the worker needs."""
    triage = app.declare("ticket.triage", Ticket, str)
    assert not triage.has_handler

    @triage.handler
    async def run(ticket: Ticket, ctx: Context) -> str:
        return ticket.summary

    assert triage.has_handler


async def test_a_mistake_in_a_declaration_is_an_error_at_import(app: Taurine) -> None:
    with pytest.raises(CatalogError, match="did you mean 'ticket_id'"):
        app.declare("ticket.triage", Ticket, job_id="triage:{ticketid}")


async def test_rules_have_defaults(app: Taurine) -> None:
    rules = app.declare("ticket.triage", Ticket).options

    assert (rules.queue, rules.priority, rules.timeout) == ("jobs", 0, None)
    assert rules.retry == Retry(attempts=3)


class Export(BaseModel):
    model_config = ConfigDict(frozen=True)

    report: str
    format: Literal["csv", "pdf"]


async def test_a_payload_may_be_a_closed_choice_and_read_only(app: Taurine) -> None:
    """SEED-240: another value is refused before anything is stored, and a handler cannot change what it was given."""
    seen: list[Export] = []

    @app.job("report.export")
    async def export(wanted: Export) -> None:
        seen.append(wanted)

    with pytest.raises(ValueError, match=r"report\.export: .*'csv' or 'pdf'"):
        await export.enqueue({"report": "sales", "format": "xls"})  # pyright: ignore[reportArgumentType] - that is the point
    assert len(await app.list()) == 0

    async with app.worker():
        await (await export.enqueue(Export(report="sales", format="pdf"))).result(timeout=10)
    with pytest.raises(ValidationError, match="frozen"):
        seen[0].format = "csv"  # pyright: ignore[reportAttributeAccessIssue] - the type checker sees it as well
