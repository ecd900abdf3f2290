"""Texts that a newcomer meets first: a driver that is missing, a server that is down, the lines of a handler."""

from __future__ import annotations

import logging
import sys

import pytest

from taurine.errors import InvalidOption, StoreUnavailable
from taurine.jobs.reporting.line_format import log_handler
from taurine.ledger.database import open_database
from taurine.queue import Queue


def test_a_missing_driver_of_postgresql_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    with pytest.raises(InvalidOption, match=r'pip install "taurine\[postgres\]"'):
        open_database("postgresql://shop@localhost/shop")


async def test_a_server_that_is_down_is_told_in_one_sentence() -> None:
    async with Queue("mail", "redis://127.0.0.1:1") as queue:
        with pytest.raises(StoreUnavailable, match=r"no answer from the server at redis://127.0.0.1:1: .*[^.]; it may"):
            await queue.counts()


@pytest.mark.parametrize(
    ("message", "shown"),
    [("sending", "shop: invite:ada: sending"), ("job invite:ada starts", "shop: job invite:ada starts")],
)
def test_a_line_for_people_names_its_job_once(message: str, shown: str) -> None:
    record = logging.LogRecord("shop", logging.INFO, "", 1, message, None, None)
    record.job_id = "invite:ada"

    assert log_handler("console").format(record).endswith(f" {shown}")
