"""The pauses between tries while something is away."""

from __future__ import annotations

import asyncio

import pytest

from taurine.clock import SystemClock
from taurine.errors import LedgerUnavailable, StoreUnavailable
from taurine.pauses import Pauses, waited_out


class Slept(SystemClock):
    """A clock that does not sleep, and tells for how long it was to."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)


def test_each_pause_is_twice_the_one_before_up_to_the_longest() -> None:
    pauses = Pauses(first=0.1, longest=1.0)
    assert pauses.current == 0.0
    assert [pauses.failed() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert pauses.current == 1.0


def test_after_a_success_the_first_pause_is_short_again() -> None:
    pauses = Pauses()
    pauses.failed()
    pauses.failed()
    pauses.succeeded()
    assert pauses.current == 0.0
    assert pauses.failed() == 0.05


def test_the_first_pause_is_no_longer_than_the_longest() -> None:
    assert Pauses(first=1.0, longest=0.25).failed() == 0.25


async def test_an_outage_is_waited_out_and_told_of_once() -> None:
    clock, told, tries = Slept(), list[Exception](), 0

    async def call() -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise LedgerUnavailable("away")
        return "done"

    done = await waited_out(
        call, clock=clock, passes=lambda error: isinstance(error, LedgerUnavailable), told=told.append
    )

    assert done == "done"
    assert clock.pauses == [0.05, 0.1, 0.2]
    assert len(told) == 1


async def test_what_does_not_pass_is_raised_at_once() -> None:
    clock, told = Slept(), list[Exception]()

    async def call() -> str:
        raise StoreUnavailable("not this one")

    with pytest.raises(StoreUnavailable):
        await waited_out(call, clock=clock, passes=lambda error: isinstance(error, LedgerUnavailable), told=told.append)
    assert (clock.pauses, told) == ([], [])
