"""A support desk: a ticket is accepted by an endpoint, and triaged in four stages by a worker.

    python examples/ticket_triage.py

`post_ticket` is what the route of a web framework would call. All that may be wrong with a request is found before anything is stored: who asks, for which tenant, with
which payload, and how much that tenant has waiting. The worker trusts none of it, and looks the ticket up under its tenant.
"""

import asyncio
import json
from http import HTTPStatus

from pydantic import BaseModel, Field

from taurine import (
    AccessRequest,
    Context,
    Exponential,
    Keep,
    LedgerUnavailable,
    NotAuthorized,
    PayloadInvalid,
    Permanent,
    Pipeline,
    QuotaExceeded,
    Retry,
    Taurine,
)

QUEUE = "ticket-triage"
DAY = 24 * 3600
USERS = {"token-of-ada": "ada@acme", "token-of-grace": "grace@globex"}
CATEGORIES = {"billing": {"invoice", "refund", "charged"}, "outage": {"down", "error", "timeout"}}
TEAMS = {"billing": "finance", "outage": "on-call"}


def authorize(request: AccessRequest) -> bool:
    """Asked before each enqueue and each change: people act for their own tenant, operators for all."""
    return request.user == "operator" or (request.user or "").partition("@")[2] == request.tenant


app = Taurine("support-desk", authorize=authorize)


class Ticket(BaseModel):
    tenant_id: str = Field(min_length=1)
    ticket_id: str = Field(min_length=1)
    summary: str = Field(min_length=1)


class Loaded(BaseModel):
    ticket: Ticket
    text: str


class Triage(BaseModel):
    tenant_id: str
    ticket_id: str
    category: str
    urgent: bool
    team: str = "desk"


class Desk:
    """In place of your database and your chat."""

    def __init__(self) -> None:
        self.texts = {("acme", "7"): "All our sites are down, with an error", ("acme", "8"): "Charged twice"}
        self.notified: list[str] = []

    def notify(self, team: str, ticket_id: str) -> None:
        self.notified.append(f"{team}: ticket {ticket_id}")

    def was_notified(self, ticket_id: str) -> bool:
        return any(line.endswith(f"ticket {ticket_id}") for line in self.notified)


async def load(ticket: Ticket, ctx: Context) -> Loaded:
    desk: Desk = ctx.deps
    text = desk.texts.get((ticket.tenant_id, ticket.ticket_id))
    if text is None:
        raise Permanent(f"{ticket.tenant_id} has no ticket {ticket.ticket_id}")
    return Loaded(ticket=ticket, text=text)


async def classify(loaded: Loaded, ctx: Context) -> Triage:
    words = {word.strip(".,!?") for word in f"{loaded.ticket.summary} {loaded.text}".lower().split()}
    found = {category: len(words & marks) for category, marks in CATEGORIES.items()}
    category = max(found, key=lambda name: found[name])
    ticket = loaded.ticket
    return Triage(
        tenant_id=ticket.tenant_id,
        ticket_id=ticket.ticket_id,
        category=category if found[category] else "other",
        urgent=bool(words & {"down", "urgent"}),
    )


def route(triage: Triage) -> Triage:
    return triage.model_copy(update={"team": TEAMS.get(triage.category, "desk")})


async def notify(triage: Triage, ctx: Context) -> Triage:
    desk: Desk = ctx.deps
    # A retry begins with the first stage; nobody is to be told twice.
    await ctx.once(
        f"notify:{triage.ticket_id}",
        desk.notify,
        triage.team,
        triage.ticket_id,
        look_up=lambda: desk.was_notified(triage.ticket_id) or None,
    )
    return triage


triage_ticket = app.pipeline(
    Pipeline("ticket-triage", (load, classify, route, notify)),
    queue=QUEUE,
    job_id="ticket-triage:{tenant_id}:{ticket_id}",
    tenant="{tenant_id}",
    retry=Retry(attempts=3, backoff=Exponential(5.0)),
    timeout=60,
    keep_completed=Keep(age=DAY, count=1000),
    keep_failed=Keep(age=7 * DAY),
)


async def post_ticket(body: bytes, token: str) -> tuple[HTTPStatus, dict[str, str]]:
    user = USERS.get(token)
    if user is None:
        return HTTPStatus.UNAUTHORIZED, {"error": "who are you?"}
    try:
        payload = json.loads(body)
    except ValueError:
        return HTTPStatus.BAD_REQUEST, {"error": "no JSON"}
    try:
        handle = await triage_ticket.enqueue(payload, user=user, source="POST /tickets")
    except PayloadInvalid as error:
        return HTTPStatus.BAD_REQUEST, {"error": str(error)}
    except NotAuthorized as error:
        return HTTPStatus.FORBIDDEN, {"error": str(error)}
    except QuotaExceeded as error:
        return HTTPStatus.TOO_MANY_REQUESTS, {"error": str(error)}
    except LedgerUnavailable:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "try again"}
    return HTTPStatus.ACCEPTED, {"job": handle.id, "status": handle.status}


async def main() -> None:
    desk = Desk()
    down = {"tenant_id": "acme", "ticket_id": "7", "summary": "urgent"}
    async with app:
        await app.set_quota("globex", max_open=0, user="operator")
        requests = [
            (down, "token-of-ada"),
            (down, "token-of-ada"),
            (down, "token-of-grace"),
            ({**down, "summary": ""}, "token-of-ada"),
            ({**down, "tenant_id": "globex"}, "token-of-grace"),
        ]
        for body, token in requests:
            status, answer = await post_ticket(json.dumps(body).encode(), token)
            print(status.value, json.dumps(answer))

        async with app.worker(deps=desk):
            record = await app.wait("ticket-triage:acme:7", timeout=30)
            assert record is not None
        print(record.status, json.dumps(record.output))
        print("stages:", ", ".join(record.progress["durations"]))
    print("told:", desk.notified)


if __name__ == "__main__":
    asyncio.run(main())
