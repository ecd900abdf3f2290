"""A payment that is charged once: whoever asks for it again, whichever worker dies, and whatever answer gets lost.

    python examples/payment.py

The job's id makes one job of several clicks. `ctx.once` writes the intent before the provider is called and the result after, so a later attempt knows that it must
ask the provider first. The row in the shop's own database is the last word: who comes too late gets "already_processed". Run it again, and nothing is charged.
"""

import asyncio
import sqlite3
from contextlib import closing
from typing import Literal

from pydantic import BaseModel

from taurine import Context, Exponential, JobFailed, Retry, Rule, Taurine


class CardDeclined(Exception):
    """The provider has said no, so nothing happened and no attempt will help."""


app = Taurine("cashier")


class Payment(BaseModel):
    payment_id: str
    customer: str
    cents: int


class Charged(BaseModel):
    status: Literal["processed", "already_processed"]
    charge_id: str


class Customer(BaseModel):
    customer_id: str
    email: str


class Provider:
    """In place of your provider's client: it charges what it is told to, as often as it is told."""

    def __init__(self) -> None:
        self.charges: dict[str, str] = {}  # by our reference
        self.number = 0
        self.answers_lost = {"p-43"}

    async def charge(self, payment: Payment) -> str:
        if payment.cents > 100_000:
            raise CardDeclined("no funds")
        self.number += 1
        self.charges[payment.payment_id] = f"charge of {payment.payment_id}"
        if payment.payment_id in self.answers_lost:
            raise TimeoutError("the provider did not answer")
        return self.charges[payment.payment_id]

    async def find(self, payment_id: str) -> str | None:
        return self.charges.get(payment_id)


def open_shop() -> sqlite3.Connection:
    """Your own database."""
    shop = sqlite3.connect(app.settings.home / "shop.db")
    shop.execute("create table if not exists payment (payment_id text primary key, charge_id text not null)")
    shop.execute("create table if not exists customer (customer_id text primary key, email text not null)")
    return shop


def booked(payment: Payment) -> str | None:
    with closing(open_shop()) as shop:
        wanted = "select charge_id from payment where payment_id = ?"
        row = shop.execute(wanted, (payment.payment_id,)).fetchone()
    return row and row[0]


def book(payment: Payment, charge_id: str) -> bool:
    """True if this call has written the row: the unique key decides between two that both saw none."""
    with closing(open_shop()) as shop, shop:
        insert = "insert into payment values (?, ?) on conflict do nothing"
        return shop.execute(insert, (payment.payment_id, charge_id)).rowcount == 1


@app.job(
    "payment.charge",
    queue="payments",
    job_id="payment:{payment_id}",
    retry=Retry(attempts=3, backoff=Exponential(60), rules=(Rule(CardDeclined, "permanent"),)),
)
async def charge(payment: Payment, ctx: Context) -> Charged:
    provider: Provider = ctx.deps
    if (charge_id := booked(payment)) is not None:
        return Charged(status="already_processed", charge_id=charge_id)
    charge_id = await ctx.once(
        f"charge:{payment.payment_id}",
        provider.charge,
        payment,
        look_up=lambda: provider.find(payment.payment_id),  # asked by the attempt after one that did not get to hear
        not_done=(CardDeclined,),
    )
    status = "processed" if book(payment, charge_id) else "already_processed"
    return Charged(status=status, charge_id=charge_id)


@app.job("customer.sync", queue="payments")
def sync(customer: Customer) -> None:
    """The other way to be safe: an upsert has the same end however often it is run."""
    with closing(open_shop()) as shop, shop:
        upsert = "insert into customer values (?, ?) on conflict (customer_id) do update set email = excluded.email"
        shop.execute(upsert, (customer.customer_id, customer.email))


async def main() -> None:
    provider = Provider()
    soon = Retry(attempts=3, backoff=Exponential(0.05))  # instead of a minute; the rules stay those of the type
    first = Payment(payment_id="p-42", customer="ada", cents=250)
    lost = Payment(payment_id="p-43", customer="grace", cents=990)
    declined = Payment(payment_id="p-44", customer="linus", cents=1_000_000)

    async with app, app.worker(deps=provider):
        for _ in range(2):
            handle = await charge.enqueue(first, retry=soon)
            print("p-42:", (await handle.result(timeout=30)).charge_id)
        handle = await charge.enqueue(first, job_id="from-the-bank:p-42", retry=soon)
        print("p-42 under another id:", (await handle.result(timeout=30)).status)

        handle = await charge.enqueue(lost, retry=soon)
        result = await handle.result(timeout=30)
        print(f"p-43: {result.charge_id}, in attempt", (await handle.record()).attempts)
        try:
            await (await charge.enqueue(declined, retry=soon)).result(timeout=30)
        except JobFailed as error:
            print("p-44:", str(error).rpartition(": ")[2])
    print(provider.number, "charges in this run")


if __name__ == "__main__":
    asyncio.run(main())
