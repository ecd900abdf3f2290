"""Which enqueues are the same job: once for each entity, once in a window, every time (CON-15, SEED-087, SEED-252,
SEED-253).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from support.desk import Ticket, declare_triage, recorded, ticket
from taurine import EVERY_TIME, EveryTime, OncePer, Taurine
from taurine.errors import CatalogError, InvalidName, InvalidOption
from taurine.jobs.catalog.identity import Identity
from taurine.queue import Queue
from taurine.testing import TestClock

NOON = 1_800_000_000.0 - 1_800_000_000.0 % 3600


class _Parts(BaseModel):
    a: str = "1"
    b: str = "2"
    c: str = "3"


async def test_once_for_each_entity(app: Taurine) -> None:
    """SEED-013, SEED-042, SEED-086: the same ticket is the same job, however often it is asked for; another one is
    another.
    """
    triage = declare_triage(app)
    first, again, other = [await triage.enqueue(ticket(number)) for number in (7, 7, 8)]
    assert first.id == again.id == "ticket-triage:acme:7"
    assert (first.duplicate, again.duplicate, other.duplicate) == (False, True, False)


async def test_once_in_a_window(app_factory: Callable[..., Taurine]) -> None:
    """CON-15, SEED-253: two clicks in one window are one job; the next window has its own."""
    clock = TestClock(NOON)
    resend = app_factory(clock=clock).declare(
        "invite.resend", Ticket, job_id=OncePer("resend:{ticket_id}", timedelta(minutes=10))
    )
    handles = [await resend.enqueue(ticket())]
    for seconds in (1, 598, 1, 600):
        clock.advance(seconds)
        handles.append(await resend.enqueue(ticket()))
    assert [handle.duplicate for handle in handles] == [False, True, True, False, False]
    assert handles[0].id == f"resend:7@{int(NOON * 1000)}"


@pytest.mark.parametrize(
    "job_id", [None, EVERY_TIME, EveryTime("resend:{ticket_id}")], ids=["left out", "named", "with text"]
)
async def test_every_time(app_factory: Callable[..., Taurine], job_id: Any) -> None:
    """CON-15, SEED-252, SEED-253: each enqueue is a job of its own, also two in one millisecond."""
    clock = TestClock(NOON)
    resend = app_factory(clock=clock).declare("invite.resend", Ticket, job_id=job_id)
    handles = [await resend.enqueue(ticket()) for _ in range(3)]
    assert len({handle.id for handle in handles}) == 3
    assert not any(handle.duplicate for handle in handles)


def test_the_text_of_every_time_stands_in_front_so_that_jobs_of_one_entity_are_found_together() -> None:
    """SEED-087."""
    identity = Identity(EveryTime("resend:{ticket_id}"), job_type="t", fields=["ticket_id"])
    early, late = (identity.id_for(ticket(), now) for now in (NOON, NOON + 1))
    assert early.startswith("resend:7:")
    assert late.startswith("resend:7:")
    assert early < late


@pytest.mark.parametrize("template", ["{a}", "invite:{a}", "k:{a}:{b}", "email:{a}:{b}:{c}"], ids="1234")
async def test_ids_of_one_to_four_parts(app: Taurine, template: str, redis_socket_url: str, prefix: str) -> None:
    """CON-13, SEED-013, SEED-078, SEED-129, SEED-199: BullMQ refuses some of these; here they are accepted, and reach
    the queue under their own name.
    """
    parts = app.declare("parts.use", _Parts, job_id=template, queue="parts")
    handle = await parts.enqueue(_Parts(a="x"))
    assert handle.id.count(":") == template.count(":")
    async with Queue("parts", redis_socket_url, prefix=prefix) as queue:
        job = await queue.get_job(handle.id)
    assert job is not None
    assert job.id == handle.id


@pytest.mark.parametrize(
    "job_id", ["7", "0", "welcome", "payment:42", "a:b:c", "email:a@b.c:welcome:1700000000", "é ü"]
)
async def test_an_id_of_the_callers_own(app: Taurine, job_id: str) -> None:
    triage = declare_triage(app)
    handle = await triage.enqueue(ticket(), job_id=job_id)
    assert handle.id == job_id
    record = await app.get(job_id)
    assert record is not None
    assert (await triage.enqueue(ticket(), job_id=job_id)).duplicate


@pytest.mark.parametrize("job_id", ["", "a\nb", "wait", "x" * 2000, "a\ud800"])
async def test_an_id_that_cannot_be_stored_is_refused_before_anything_is(app: Taurine, job_id: str) -> None:
    triage = declare_triage(app)
    with pytest.raises(InvalidName):
        await triage.enqueue(ticket(), job_id=job_id)
    assert await recorded(app) == []


@pytest.mark.parametrize("text", ["a\nb", "wait", "repeat:daily", "x" * 3000])
async def test_nor_does_a_template_make_one(app: Taurine, text: str) -> None:
    """The caller hears of it; a record that no queue takes would be open until somebody gives it up."""
    declared = app.declare("parts.count", _Parts, job_id="{a}")
    with pytest.raises(InvalidName):
        await declared.enqueue(_Parts(a=text))
    with pytest.raises(InvalidName):
        await declared.enqueue_many([_Parts(a="fine"), _Parts(a=text)])
    assert await recorded(app) == []


@pytest.mark.parametrize("intent", [OncePer("repeat:{a}", 60), EveryTime("repeat:{a}")], ids=["window", "every time"])
def test_nor_does_a_window_or_a_text_in_front(intent: OncePer | EveryTime) -> None:
    with pytest.raises(InvalidName, match="is reserved"):
        Identity(intent, job_type="t", fields=["a"]).id_for(_Parts(), NOON)


def test_an_id_without_a_field_would_be_one_job_for_ever() -> None:
    with pytest.raises(CatalogError, match="one job for ever"):
        Identity("invite", job_type="t", fields=["user_id"])
    assert Identity(OncePer("digest", 60), job_type="t", fields=[]).id_for(None, NOON).startswith("digest@")


def test_a_window_of_no_length_is_refused() -> None:
    with pytest.raises(InvalidOption, match="window"):
        Identity(OncePer("digest:{user}", 0), job_type="t", fields=["user"])
