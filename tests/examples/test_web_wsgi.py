from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest
from sqlalchemy import text

from taurine.testing import drain

CONFIRMED = "order 7: a mail is on its way"


def test_the_program_accepts_refuses_and_works(started: Callable[..., str]) -> None:
    for duplicate in ("false", "true"):
        lines = started("web_wsgi").splitlines()

        assert lines[0::2] == ["202 Accepted", "202 Accepted", "400 Bad Request", CONFIRMED]
        assert lines[1] == f'{{"job": "confirm:7", "duplicate": {duplicate}}}'
        assert lines[3] == '{"job": "confirm:7", "duplicate": true}'


@pytest.mark.parametrize(("email", "kept"), [("ada@example.com", 1), ("", 0)])
async def test_an_order_and_its_job_are_there_together_or_not_at_all(
    imported: Callable[..., Any], email: str, kept: int
) -> None:
    example = imported("web_wsgi")
    await example.set_up()
    body = json.dumps({"number": 7, "email": email}).encode()
    status, _ = await asyncio.to_thread(example.place_order, body)
    await asyncio.to_thread(example.app.close_sync)
    drained = await drain(example.app)
    with example.engine.connect() as connection:
        orders = connection.execute(text("select number from shop_order")).all()
    example.engine.dispose()

    assert status == (HTTPStatus.ACCEPTED if kept else HTTPStatus.BAD_REQUEST)
    assert len(orders) == kept
    assert [record.output for record in drained.completed] == [CONFIRMED] * kept
