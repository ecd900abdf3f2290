"""Enqueueing from a web framework that is not async, in one transaction with the row that the job is about.

    python examples/web_wsgi.py

There is no confirmation of an order that was rolled back, and no order without one: `session=` is a SQLAlchemy session on the ledger's database, and the job is handed over
after its commit. A view of Flask has the same body. Django's ORM has a connection of its own; there it is `transaction.on_commit(lambda: confirm.enqueue_sync(order))`,
which leaves a gap, between the commit and the call, in which a process may die. Here the WSGI application is called without a server.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from io import BytesIO
from typing import Any

from pydantic import BaseModel, Field
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from taurine import PayloadInvalid, Taurine

app = Taurine("shop")
engine = create_engine(app.settings.database_url or f"sqlite:///{app.settings.home / 'taurine.db'}")


class Order(BaseModel):
    number: int
    email: str = Field(pattern="@")


@app.job("order.confirm", queue="orders", job_id="confirm:{number}")
def confirm(order: Order) -> str:
    return f"order {order.number}: a mail is on its way"


def place_order(body: bytes) -> tuple[HTTPStatus, dict[str, object]]:
    """The view: a row, its job, and 202."""
    order = json.loads(body)
    with Session(engine) as session, session.begin():
        wanted = text("insert into shop_order values (:number, :email) on conflict do nothing")
        session.execute(wanted, {"number": order["number"], "email": order["email"]})
        try:
            handle = confirm.enqueue_sync(order, session=session, source="POST /orders")
        except PayloadInvalid as error:
            session.rollback()
            return HTTPStatus.BAD_REQUEST, {"error": str(error)}
    return HTTPStatus.ACCEPTED, {"job": handle.id, "duplicate": handle.duplicate}


def wsgi(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> Iterable[bytes]:
    """What a server such as gunicorn is given."""
    status, answer = place_order(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


async def set_up() -> None:
    """Before a deployment: the tables, Taurine's and your own."""
    await app.migrate()
    await app.close()
    with engine.begin() as connection:
        connection.execute(text("create table if not exists shop_order (number integer primary key, email text)"))


async def work() -> None:
    async with app.worker():
        async for record in app.list(type="order.confirm"):
            ended = await app.wait(record.id, timeout=30)
            print(ended and ended.output)
    await app.close()


def main() -> None:
    asyncio.run(set_up())
    for order in (
        {"number": 7, "email": "ada@example.com"},
        {"number": 7, "email": "ada@example.com"},
        {"number": 8, "email": ""},
    ):
        body = json.dumps(order).encode()
        environ = {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        said = wsgi(environ, lambda status, _: print(status))
        print(b"".join(said).decode())
    app.close_sync()
    asyncio.run(work())
    engine.dispose()


if __name__ == "__main__":
    main()
