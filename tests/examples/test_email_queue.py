from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from support.eventually import eventually
from taurine.options import Keep, RateLimit
from taurine.queue import Queue
from taurine.testing import TestClock, drain


def test_the_program_delivers_what_was_refused(started: Callable[..., str]) -> None:
    """Again in the same folder: each call is a letter of its own (SEED-199)."""
    expected = [
        "ada: sent in attempt 1",
        "grace: sent in attempt 3",
        "linus: dead after 5 attempts: 421 service not available",
        "linus: sent after all, in attempt 1",
        "3 letters delivered",
    ]

    assert started("email_queue").splitlines() == expected
    assert started("email_queue").splitlines() == expected


async def test_the_pauses_of_a_letter_whose_server_stays_away(
    imported: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """SEED-193, SEED-196, SEED-197: five attempts after 2, 4, 8 and 16 s; what the log says of each, and at which
    level.
    """
    clock = TestClock()
    example = imported("email_queue", clock=clock)
    server = example.MailServer()
    server.away.add("linus@example.com")
    caplog.set_level(logging.INFO, "taurine")
    handle = await example.send_email("linus@example.com", "invoice")

    (record,) = (await drain(example.app, until="ended", deps=server)).failed
    attempts = await example.app.attempts(handle.id)
    starts = [attempt.started_at for attempt in attempts]
    pauses = [(later - sooner).total_seconds() for sooner, later in pairwise(starts)]

    assert [attempt.outcome for attempt in attempts] == ["retried"] * 4 + ["failed"]
    assert all(0.8 * full <= pause <= full for pause, full in zip(pauses, (2, 4, 8, 16), strict=True)), pauses
    assert [(line.message, (line.fields or {})["attempt"]) for line in await example.app.logs(record.id)] == [
        ("sending", number) for number in range(1, 6)
    ]
    levels = [line.levelname for line in caplog.records if line.levelno >= logging.WARNING]
    assert levels == ["WARNING"] * 4 + ["ERROR"]


async def test_a_sent_letter_says_how_long_it_took(imported: Callable[..., Any]) -> None:
    """SEED-196."""
    example = imported("email_queue")
    handle = await example.send_email("ada@example.com", "welcome")

    await drain(example.app, deps=example.MailServer())
    lines = await example.app.logs(handle.id)

    assert [line.message for line in lines] == ["sending", "sent"]
    assert (lines[1].fields or {})["seconds"] >= 0


async def test_the_dead_letter_is_shown_in_email_dlq(
    imported: Callable[..., Any], redis_socket_url: str, prefix: str
) -> None:
    """SEED-194, SEED-198: under the names that hand-written dead letter queues use."""
    example = imported("email_queue", clock=TestClock())
    server = example.MailServer()
    server.away.add("linus@example.com")
    handle = await example.send_email("linus@example.com", "invoice", {"number": "7"})
    async with Queue("email-dlq", redis_socket_url, prefix=prefix) as mirror:
        await drain(example.app, until="ended", deps=server)
        async with example.app.worker(deps=server):  # makes the copies when it starts, and every 5 s
            (copy,) = await eventually(mirror.get_jobs, message="no copy was made")

    assert copy.data["originalJobId"] == handle.id
    assert copy.data["jobData"]["variables"] == {"number": "7"}
    assert copy.data["error"] == "421 service not available"
    assert copy.data["totalAttempts"] == 5
    assert copy.data["failedAt"]


async def test_ten_at_once_and_a_hundred_a_minute(
    imported: Callable[..., Any], redis_socket_url: str, prefix: str
) -> None:
    """SEED-195: both, as the queue and its worker have them."""
    example = imported("email_queue")
    server, most = SlowServer(), 10
    for number in range(most + 2):
        await example.send_email(f"user-{number}@example.com", "news")

    async with example.app.worker(concurrency=most, deps=server):
        await eventually(lambda: server.under_way == most, message="not ten at once")
        async with Queue("email", redis_socket_url, prefix=prefix) as queue:
            assert (await queue.meta()).rate_limit == RateLimit(100, 60)
        server.go.set()
        await eventually(lambda: server.sent == most + 2, message="not all were sent")

    assert server.most == most


class SlowServer:
    """Holds each letter until the test says go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.under_way = self.most = self.sent = 0

    async def send(self, email: Any) -> str:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        self.sent += 1
        return "<1@mail.example.com>"


async def test_the_rules_of_a_letter(imported: Callable[..., Any]) -> None:
    """SEED-193, SEED-199: what the queue keeps; priority and delay; an id of four parts, of which the first three find
    it.
    """
    clock = TestClock()
    example = imported("email_queue", clock=clock)
    options = example.deliver.options

    handle = await example.send_email("ada@example.com", "welcome", priority=3, delay=60)
    other = await example.send_email("ada@example.com", "welcome")
    record = await handle.record()

    assert (options.retry.attempts, options.retry.backoff.base) == (5, 2.0)
    assert (options.keep_completed, options.keep_failed) == (
        Keep(age=24 * 3600, count=1000),
        Keep(age=7 * 24 * 3600, count=5000),
    )
    assert handle.id.startswith("email:ada@example.com:welcome:")
    assert len(handle.id.split(":")) == 4
    assert (handle.id == other.id, other.duplicate) == (False, False)
    assert record.priority == 3
    assert record.scheduled_for.timestamp() == clock.now() + 60
