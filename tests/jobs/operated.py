"""What the tests of the operator's side work on: orders, which complete or fail as their payload says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

from support.eventually import eventually
from taurine.app import Taurine
from taurine.errors import Permanent
from taurine.jobs.catalog.job_type import JobType
from taurine.ledger.records import JobRecord
from taurine.retry import Fixed, Retry

__all__ = ["Order", "Price", "declare_orders", "ended"]


class Order(BaseModel):
    number: int
    fail: str | None = None
    """"permanent" or any other text fails the job with it; None completes it."""


class Price(BaseModel):
    price: int


def declare_orders(app: Taurine, **options: Any) -> JobType[Order, Price]:
    """The job type `order` on the queue `orders`: two attempts, one right after the other."""
    rules: dict[str, Any] = {"queue": "orders", "retry": Retry(attempts=2, backoff=Fixed(0.001))}

    @app.job("order", **(rules | options))
    async def order(payload: Order) -> Price:
        if payload.fail == "permanent":
            raise Permanent("never")
        if payload.fail is not None:
            raise RuntimeError(payload.fail)
        return Price(price=payload.number * 2)

    return order


async def ended(get: Callable[[], Awaitable[JobRecord | None]], status: str, within: float = 10.0) -> JobRecord:
    """The record once it has this status."""

    async def has_status() -> JobRecord | None:
        record = await get()
        assert record is not None, "no record"
        assert record.status == status, f"it is {record.status}: {record.error}"
        return record

    found = await eventually(has_status, within, f"the job did not get the status {status}")
    assert found is not None
    return found
