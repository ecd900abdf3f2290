"""A billing webhook: the provider may deliver an event as often as it likes, and it is booked once.

    python examples/webhook.py

The event's id is the job's id, so a second delivery finds the first one's job, also days later. The endpoint answers at once, when the job is committed; a delivery that
fails before that is repeated by the provider. `receive` is what the route of a web framework would call.
"""

import asyncio
import hashlib
import hmac
import json
import sqlite3
from contextlib import closing
from http import HTTPStatus

from pydantic import BaseModel, Field

from taurine import Context, LedgerUnavailable, PayloadInvalid, Taurine

SECRET = b"whsec_example"  # of your provider's dashboard, from the environment

app = Taurine("billing")


class Event(BaseModel):
    id: str = Field(pattern=r"^evt_\w+$")
    type: str
    customer: str
    cents: int


def open_books() -> sqlite3.Connection:
    """Your own database."""
    books = sqlite3.connect(app.settings.home / "billing.db")
    books.execute("create table if not exists entry (event_id text primary key, customer text, cents integer)")
    return books


@app.job("billing.event", queue="billing", job_id="webhook:{id}")
def book(event: Event, ctx: Context) -> bool:
    if event.type != "invoice.paid":
        ctx.log.info("nothing to do", event=event.type)
        return False
    with closing(open_books()) as books, books:
        # A worker may die after this and before the job is recorded as completed: then it runs again, and this is what makes that harmless.
        insert = "insert into entry values (?, ?, ?) on conflict do nothing"
        return books.execute(insert, (event.id, event.customer, event.cents)).rowcount == 1


def signature(body: bytes) -> str:
    return hmac.new(SECRET, body, hashlib.sha256).hexdigest()


async def receive(body: bytes, signed: str) -> tuple[HTTPStatus, dict[str, object]]:
    """The route: checked, committed, answered."""
    if not hmac.compare_digest(signature(body), signed):
        return HTTPStatus.UNAUTHORIZED, {"error": "the signature is not ours"}
    try:
        handle = await book.enqueue(json.loads(body), source="POST /webhooks/billing")
    except (json.JSONDecodeError, UnicodeDecodeError, PayloadInvalid):
        return HTTPStatus.BAD_REQUEST, {"error": "no event"}
    except LedgerUnavailable:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "deliver it again"}
    return HTTPStatus.ACCEPTED, {"job": handle.id, "duplicate": handle.duplicate}


async def main() -> None:
    event = {"id": "evt_81", "type": "invoice.paid", "customer": "ada", "cents": 2_500}
    body = json.dumps(event).encode()
    async with app, app.worker():
        for signed in (signature(body), signature(body), "forged"):
            status, answer = await receive(body, signed)
            print(status.value, json.dumps(answer))
        record = await app.wait("webhook:evt_81", timeout=30)
        print(record and record.status)
    with closing(open_books()) as books:
        print(books.execute("select count(*), sum(cents) from entry").fetchone())


if __name__ == "__main__":
    asyncio.run(main())
