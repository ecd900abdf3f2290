from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from typing import Any

import pytest

from taurine.testing import drain, run_twice

EVENT = {"id": "evt_7", "type": "invoice.paid", "customer": "ada", "cents": 2_500}


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("webhook")


async def deliver(example: Any, event: Any = EVENT) -> tuple[HTTPStatus, dict[str, Any]]:
    body = json.dumps(event).encode()
    return await example.receive(body, example.signature(body))


def entries(example: Any) -> list[tuple[str, str, int]]:
    with closing(example.open_books()) as books:
        return books.execute("select * from entry").fetchall()


def test_the_program_books_one_of_two_deliveries(started: Callable[..., str]) -> None:
    """SEED-067: and none when it is run again."""
    accepted = '202 {"job": "webhook:evt_81", "duplicate": %s}'
    refused = '401 {"error": "the signature is not ours"}'
    assert started("webhook").splitlines() == [
        accepted % "false",
        accepted % "true",
        refused,
        "completed",
        "(1, 2500)",
    ]
    assert started("webhook").splitlines() == [accepted % "true", accepted % "true", refused, "completed", "(1, 2500)"]


async def test_a_replay_does_nothing(example: Any) -> None:
    """SEED-067: at once, five times; and when the job has ended."""
    answers = await asyncio.gather(*(deliver(example) for _ in range(5)))
    await drain(example.app)
    late = await deliver(example)
    again = await drain(example.app)

    assert {status for status, _ in answers} == {HTTPStatus.ACCEPTED}
    assert sorted(answer["duplicate"] for _, answer in answers) == [False] + [True] * 4
    assert late == (HTTPStatus.ACCEPTED, {"job": "webhook:evt_7", "duplicate": True})
    assert not again
    assert entries(example) == [("evt_7", "ada", 2_500)]


async def test_a_delivery_that_dies_half_way_is_booked_once(example: Any) -> None:
    await run_twice(example.book, example.Event(**EVENT), outside=lambda: entries(example))


@pytest.mark.parametrize("event", [{**EVENT, "id": "81"}, {"id": "evt_7"}, [1]])
async def test_what_is_no_event_is_no_job(example: Any, event: Any) -> None:
    status, _ = await deliver(example, event)

    assert status == HTTPStatus.BAD_REQUEST
    assert len(await example.app.list()) == 0


async def test_a_forged_delivery_is_no_job(example: Any) -> None:
    status, _ = await example.receive(json.dumps(EVENT).encode(), "forged")

    assert status == HTTPStatus.UNAUTHORIZED
    assert len(await example.app.list()) == 0
