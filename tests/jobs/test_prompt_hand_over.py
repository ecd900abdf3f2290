"""Handing over in the call that recorded: what every such call does when the server of queues is down (P2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jobs.operated import Order, declare_orders, ended
from jobs.reconciling import NO_UPKEEP, backend_of
from taurine.app import Taurine
from taurine.errors import LedgerUnavailable, StoreUnavailable
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.handover.prompt import PromptHandOver
from taurine.testing import TestClock

Factory = Callable[..., Taurine]


class _Down:
    """A dispatcher whose server is down."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.tries = 0

    async def dispatch_new(self, records: Any, *, within: float) -> None:
        self.tries += 1
        raise self.error

    async def dispatch(self, records: Any) -> int:
        self.tries += 1
        raise self.error


@pytest.mark.parametrize("error", [StoreUnavailable("down"), TimeoutError(), RuntimeError("a fault of ours")])
async def test_nothing_is_raised_and_the_outbox_is_told(error: Exception) -> None:
    down, told = _Down(error), list[None]()
    prompt = PromptHandOver(dispatcher=down, undelivered=lambda: told.append(None), clock=TestClock())  # type: ignore[arg-type]

    await prompt.hand_over(new=[object()])  # type: ignore[list-item]

    assert len(told) == 1


async def test_a_server_that_is_down_is_not_tried_by_the_next_call_and_the_outbox_is_told_each_time() -> None:
    clock, down, told = TestClock(), _Down(StoreUnavailable("down")), list[None]()
    prompt = PromptHandOver(dispatcher=down, undelivered=lambda: told.append(None), clock=clock)  # type: ignore[arg-type]
    one: Any = object()

    await prompt.hand_over(new=[one])
    await prompt.hand_over(again=[one])
    await prompt.hand_over()
    assert (down.tries, len(told)) == (1, 2)

    clock.advance(1.1)
    await prompt.hand_over(again=[one])
    assert (down.tries, len(told)) == (2, 3)


async def test_a_ledger_that_does_not_take_the_stamps_is_no_outage_of_the_queue() -> None:
    down, told = _Down(LedgerUnavailable("away")), list[None]()
    prompt = PromptHandOver(dispatcher=down, undelivered=lambda: told.append(None), clock=TestClock())  # type: ignore[arg-type]
    one: Any = object()

    await prompt.hand_over(again=[one])
    await prompt.hand_over(again=[one])

    assert (down.tries, len(told)) == (2, 2)


async def test_a_retry_by_hand_leaves_a_server_that_is_down_to_the_outbox(
    app_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An enqueue has just found it down: an operator's call does not wait for it once more."""
    app = app_factory()
    order = declare_orders(app)
    failed = await order.enqueue(Order(number=1, fail="permanent"))
    async with app.worker(upkeep=NO_UPKEEP):
        await ended(lambda: app.get(failed.id), "failed")
    await backend_of(app).outbox.stop()
    monkeypatch.setattr(backend_of(app).outbox, "start", lambda: None)
    tries: list[str] = []

    async def down(*_: Any, **__: Any) -> int:
        tries.append("tried")
        raise StoreUnavailable("down")

    monkeypatch.setattr(Dispatcher, "dispatch", down)
    monkeypatch.setattr(Dispatcher, "dispatch_new", down)

    await order.enqueue(Order(number=2))
    record = await app.retry(failed.id)

    assert record.status == "queued"
    assert tries == ["tried"]
