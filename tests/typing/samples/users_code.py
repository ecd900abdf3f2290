"""What a user writes.

A line that ends in `error: rule` must be refused by the type checker for that rule, and no other line may be.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from pydantic import BaseModel

from taurine import Context, Exponential, JobHandle, JobRecord, JobType, NoPayload, OncePer, Retry, Taurine

app = Taurine("support-desk")


class Ticket(BaseModel):
    tenant_id: str
    ticket_id: str


class Invite(BaseModel):
    user: str


class Triage(BaseModel):
    category: str


@app.job(
    "ticket.triage",
    queue="ticket-triage",
    job_id="ticket-triage:{tenant_id}:{ticket_id}",
    tenant="{tenant_id}",
    retry=Retry(attempts=3, backoff=Exponential(5.0, jitter=0.2)),
    timeout=timedelta(seconds=60),
)
async def triage(ticket: Ticket, ctx: Context) -> Triage:
    await ctx.progress(1, 2)
    return Triage(category=ticket.ticket_id)


@app.job("ticket.count")
def count(ticket: Ticket) -> int:
    return len(ticket.ticket_id)


@app.job("ticket.digest", job_id=OncePer("digest:{tenant_id}", 3600))
async def digest(ticket: Ticket) -> None: ...


@app.job("ticket.close", ques="tickets")  # error: reportCallIssue
async def close(ticket: Ticket) -> None: ...


@app.job("ticket.open", priority="high")  # error: reportArgumentType
async def open_ticket(ticket: Ticket) -> None: ...


@app.job("ticket.merge")  # error: reportCallIssue
async def merge(ticket: Ticket, ctx: Context, other: Ticket) -> None: ...


@app.cron("0 3 * * *")
async def sweep() -> int:
    return 1


@app.job("sweep.now")
def sweep_now() -> str:
    return ""


declared = app.declare("email.sendInvite", Invite, Triage, queue="email")
untyped = app.declare("email.sendReminder", Invite)


@declared.handler
async def send_invite(invite: Invite, ctx: Context) -> Triage:
    return Triage(category=invite.user)


@declared.handler  # error: reportArgumentType
async def send_other(invite: Ticket) -> Triage: ...


@declared.handler  # error: reportArgumentType
async def send_number(invite: Invite) -> int: ...


@untyped.handler
def remind(invite: Invite) -> int:
    return 1


async def use() -> None:
    assert_type(triage, JobType[Ticket, Triage])
    assert_type(count, JobType[Ticket, int])
    assert_type(digest, JobType[Ticket, None])
    assert_type(declared, JobType[Invite, Triage])
    assert_type(sweep, JobType[NoPayload, int])
    assert_type(sweep_now, JobType[NoPayload, str])
    await sweep()
    sweep_now(NoPayload())

    ticket = Ticket(tenant_id="acme", ticket_id="7")
    handle = await triage.enqueue(ticket, delay=timedelta(hours=1), on_duplicate="rerun", tags=["vip"])
    assert_type(handle, JobHandle[Triage])
    assert_type(await handle.result(timeout=30), Triage)
    assert_type(await handle.record(), JobRecord)
    assert_type(await (await count.enqueue(ticket)).result(), int)
    assert_type(await triage.enqueue_many([ticket]), list[JobHandle[Triage]])
    assert_type(triage.enqueue_sync(ticket), JobHandle[Triage])
    assert_type(await app.enqueue(triage, ticket), JobHandle[Triage])

    await triage.enqueue(Invite(user="ann"))  # error: reportArgumentType
    await triage.enqueue({"tenant_id": "acme", "ticket_id": "7"})  # error: reportArgumentType
    await triage.enqueue(ticket, dely=5)  # error: reportCallIssue
    await triage.enqueue(ticket, priority="high")  # error: reportArgumentType
    await triage.enqueue(ticket, on_duplicate="replace")  # error: reportArgumentType
    await triage.enqueue_many([Invite(user="ann")])  # error: reportArgumentType
    triage.enqueue_sync(Invite(user="ann"))  # error: reportArgumentType
    await app.enqueue(triage, Invite(user="ann"))  # error: reportArgumentType
    await triage.enqeue(ticket)  # error: reportAttributeAccessIssue
    number: int = await handle.result()  # error: reportAssignmentType
    print(number, handle.stat)  # error: reportAttributeAccessIssue
