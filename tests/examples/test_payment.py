from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedded.processes import SOURCE
from support.eventually import eventually
from taurine.testing import TestClock, attempt_job, drain, run_at_failpoints


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("payment", clock=TestClock())


def payment(example: Any, number: int = 7) -> Any:
    return example.Payment(payment_id=f"p-{number}", customer="ada", cents=250)


def rows(example: Any, table: str = "payment") -> list[tuple[str, str]]:
    with closing(example.open_shop()) as shop:
        return shop.execute(f"select * from {table}").fetchall()


def test_the_program_charges_nothing_when_it_is_run_again(started: Callable[..., str]) -> None:
    """SEED-129, SEED-131."""
    *said, charges = started("payment").splitlines()
    assert said == [
        "p-42: charge of p-42",
        "p-42: charge of p-42",
        "p-42 under another id: already_processed",
        "p-43: charge of p-43, in attempt 2",
        "p-44: no funds",
    ]
    assert charges == "2 charges in this run"

    assert started("payment").splitlines() == [*said, "0 charges in this run"]


async def test_a_payment_is_one_job_and_one_row(example: Any) -> None:
    """SEED-128, SEED-129, SEED-131: the id has two parts, and a run by hand of what is done changes nothing."""
    provider = example.Provider()
    handle = await example.charge.enqueue(payment(example))
    again = await example.charge.enqueue(payment(example))
    await drain(example.app, deps=provider)
    await example.app.retry(handle.id)
    await drain(example.app, deps=provider)

    assert (handle.id, handle.duplicate, again.duplicate) == ("payment:p-7", False, True)
    assert (await handle.record()).output == {"status": "already_processed", "charge_id": "charge of p-7"}
    assert provider.number == 1
    assert rows(example) == [("p-7", "charge of p-7")]


async def test_whoever_dies_wherever_the_card_is_charged_once(example: Any) -> None:
    """SEED-257: also between the charge and the commit of the row, where the next attempt finds the intent and asks the
    provider.
    """
    provider = example.Provider()

    def reset() -> None:
        provider.__init__()
        with closing(example.open_shop()) as shop, shop:
            shop.execute("delete from payment")

    report = await run_at_failpoints(
        example.charge,
        payment(example),
        outside=lambda: (provider.number, rows(example)),
        reset=reset,
        deps=provider,
    )

    assert report.outside == (1, [("p-7", "charge of p-7")])
    assert "in once 'charge:p-7', after its call" in [str(point) for point in report.points]


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
import payment

charges = Path("charges")  # at the provider, which outlives us

class Provider(payment.Provider):
    async def charge(self, charged):
        with charges.open("a") as file:
            file.write(charged.payment_id)
        os.kill(os.getpid(), signal.SIGKILL)

    async def find(self, payment_id):
        return "a charge" if charges.exists() and payment_id in charges.read_text() else None

async def main():
    async with payment.app, payment.app.worker(deps=Provider(), lease=1, stalled_interval=0.2):
        handle = await payment.charge.enqueue(payment.Payment(payment_id="p-7", customer="ada", cents=250))
        print(await handle.result(timeout=60), charges.read_text())

asyncio.run(main())
"""


def test_a_worker_that_is_killed_between_the_charge_and_the_row(tmp_path: Path) -> None:
    """SEED-257, with a real signal: the next worker finds the intent, and does not charge again."""
    paths = os.pathsep.join([str(SOURCE), str(SOURCE.parent / "examples")])
    first, second = [
        subprocess.run(
            [sys.executable, "-c", KILLED],
            cwd=tmp_path,
            env={"PYTHONPATH": paths, "PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        for _ in range(2)
    ]

    assert first.returncode == -signal.SIGKILL, first.stderr
    assert second.stdout == "status='processed' charge_id='a charge' p-7\n", second.stderr


async def test_two_that_both_saw_none(example: Any) -> None:
    """SEED-258: two jobs of one payment at once; one charges, the other finds out that it was done."""
    provider = SlowProvider(example)
    one = await example.charge.enqueue(payment(example))
    other = await example.charge.enqueue(payment(example), job_id="from-the-bank")

    async def one_was_sent_away() -> bool:
        attempts = [attempt for handle in (one, other) for attempt in await example.app.attempts(handle.id)]
        return "retried" in [attempt.outcome for attempt in attempts]

    async with example.app.worker(deps=provider):
        await eventually(one_was_sent_away, message="both wait for the provider")
        provider.answers.set()
        await eventually(lambda: rows(example), message="nothing was booked")
    await drain(example.app, until="ended", deps=provider)
    results = [(await handle.record()).output["status"] for handle in (one, other)]

    assert sorted(results) == ["already_processed", "processed"]
    assert provider.number == 1
    assert rows(example) == [("p-7", "charge of p-7")]


class SlowProvider:
    """A provider that answers when the test says so."""

    def __init__(self, example: Any) -> None:
        self._provider = example.Provider()
        self.answers = asyncio.Event()

    @property
    def number(self) -> int:
        return self._provider.number

    async def charge(self, payment: Any) -> str:
        await self.answers.wait()
        return await self._provider.charge(payment)


async def test_a_declined_card_is_not_asked_again(example: Any) -> None:
    attempt = await attempt_job(
        example.charge,
        payment(example).model_copy(update={"cents": 1_000_000}),
        deps=example.Provider(),
    )

    assert (attempt.status, attempt.dead_letter) == ("failed", "permanent")


async def test_an_upsert_may_run_again(example: Any) -> None:
    """SEED-130."""
    ada = example.Customer(customer_id="c-1", email="ada@example.com")
    for email in ("old@example.com", ada.email, ada.email):
        await example.sync.enqueue(ada.model_copy(update={"email": email}))
        await drain(example.app)

    assert rows(example, "customer") == [("c-1", "ada@example.com")]
