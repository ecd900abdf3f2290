"""Lesson 2: when `enqueue` returns, the job is recorded and will run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import BaseModel, Field

from taurine import JobType, PayloadInvalid, Taurine


class Invite(BaseModel):
    user_id: str
    address: str = Field(min_length=3)


@pytest.fixture
def invite(app: Taurine) -> JobType[Invite, str]:
    return app.declare("invite.send", Invite, str, queue="mail", job_id="invite:{user_id}")


ADA = Invite(user_id="ada", address="ada@example.com")


async def test_the_handle_names_the_job(invite: JobType[Invite, str]) -> None:
    handle = await invite.enqueue(ADA)

    assert (handle.id, handle.status, handle.duplicate) == ("invite:ada", "queued", False)


async def test_the_record_is_found_by_its_id(app: Taurine, invite: JobType[Invite, str]) -> None:
    await invite.enqueue(ADA, tags=["spring"], user="operator")

    record = await app.get("invite:ada")
    assert record is not None
    assert (record.type, record.queue, record.status) == ("invite.send", "mail", "queued")
    assert record.payload == {"user_id": "ada", "address": "ada@example.com"}
    assert (list(record.tags), record.created_by) == (["spring"], "operator")


async def test_the_same_id_is_the_same_job(invite: JobType[Invite, str]) -> None:
    first = await invite.enqueue(ADA)
    again = await invite.enqueue(ADA)

    assert (again.id, again.duplicate) == (first.id, True)


async def test_a_wrong_payload_leaves_nothing_behind(app: Taurine, invite: JobType[Invite, str]) -> None:
    with pytest.raises(PayloadInvalid, match="address"):
        await invite.enqueue({"user_id": "ada", "address": ""})  # pyright: ignore[reportArgumentType] - that is the point

    assert len(await app.list()) == 0


async def test_later(invite: JobType[Invite, str]) -> None:
    handle = await invite.enqueue(ADA, delay=timedelta(hours=2))

    due = (await handle.record()).scheduled_for
    assert due is not None
    assert due > datetime.now(UTC) + timedelta(hours=1)


async def test_many_at_once(app: Taurine, invite: JobType[Invite, str]) -> None:
    handles = await invite.enqueue_many([Invite(user_id=f"u{number}", address="a@b.c") for number in range(50)])

    assert len(handles) == 50
    assert (await app.counts())["queued"].number == 50
