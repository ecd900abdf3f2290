from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from taurine import PayloadInvalid, UnknownJobType
from taurine.queue import Queue
from taurine.testing import TestClock, drain


@pytest.fixture
def clock() -> TestClock:
    return TestClock()


@pytest.fixture
def example(imported: Callable[..., Any], clock: TestClock) -> Any:
    return imported("password_reset", clock=clock)


@pytest.fixture
def ada(example: Any) -> Any:
    return example.Invite(invite_id=UUID(int=1), email="ada@example.com")


def test_the_program_mails_once_or_each_time_as_declared(started: Callable[..., str]) -> None:
    """SEED-252. Two clicks that a full minute lies between are two resets, which may happen here."""
    *lines, mails = started("password_reset").splitlines()

    assert lines[:5] == [
        "invite-email - a job",
        "invite-email - the same job",
        "invite-resend - a job",
        "invite-resend - a job",
        "password-reset - a job",
    ]
    assert lines[6] == "reminder in 24 hours"
    assert mails == ("4 mails" if lines[5].endswith("the same job") else "5 mails")


async def test_repeated_clicks_on_invite_are_one_mail(example: Any, ada: Any) -> None:
    """SEED-077, SEED-078, SEED-085, SEED-086: an id of two parts; the second call gets the first one's job, and hears
    so, also when it has ended.
    """
    mailer = example.Mailer()
    first, second = await example.invite(ada), await example.invite(ada)
    await drain(example.app, deps=mailer)
    late = await example.invite(ada)

    assert first.id == second.id == late.id == f"invite-email:{ada.invite_id}"
    assert [handle.duplicate for handle in (first, second, late)] == [False, True, True]
    assert mailer.sent == [("invite", "ada@example.com")]


async def test_a_click_on_send_it_again_is_a_mail_each_time(example: Any, ada: Any) -> None:
    """SEED-087, SEED-252, SEED-253: in the same millisecond too; the ids begin alike, and the tag finds all."""
    mailer = example.Mailer()
    await example.invite(ada)
    handles = [await example.resend(ada), await example.resend(ada)]
    await drain(example.app, deps=mailer)
    found = await example.app.list(tag=f"invite:{ada.invite_id}")

    assert mailer.sent.count(("invite, again", "ada@example.com")) == 2
    assert all(handle.id.startswith(f"invite-resend:{ada.invite_id}:") for handle in handles)
    assert [handle.duplicate for handle in handles] == [False, False]
    assert {handle.id for handle in handles} < {record.id for record in found}
    assert len(found) == 4


async def test_a_double_click_is_one_reset_and_another_day_another(example: Any, clock: TestClock) -> None:
    """SEED-253, SEED-086."""
    mailer = example.Mailer()
    clock.advance(60 - clock.now() % 60)  # the beginning of a window
    reset = example.PasswordReset(user_id=uuid4(), email="grace@example.com")
    clicks = [await example.forgot_password(reset)]
    clock.advance(0.3)
    clicks.append(await example.forgot_password(reset))
    await drain(example.app, deps=mailer)
    clock.advance(timedelta(days=1))
    clicks.append(await example.forgot_password(reset))
    await drain(example.app, deps=mailer)

    assert [click.duplicate for click in clicks] == [False, True, False]
    assert mailer.sent == [("password reset", "grace@example.com")] * 2


async def test_a_reset_does_not_wait_behind_a_campaign(example: Any, ada: Any) -> None:
    """SEED-220: they share a queue; those of a number wait for those without, however many there are."""
    mailer = example.Mailer()
    await example.resend_invite.enqueue_many([ada] * 500, priority=10)
    await example.forgot_password(example.PasswordReset(user_id=uuid4(), email="grace@example.com"))

    await drain(example.app, deps=mailer, until=lambda: bool(mailer.sent))

    first_of_all = mailer.sent[:5]  # so many run at once
    assert ("password reset", "grace@example.com") in first_of_all


async def test_the_reminder_comes_a_day_later(example: Any, ada: Any, clock: TestClock) -> None:
    """SEED-088."""
    mailer = example.Mailer()
    await example.invite(ada)
    await drain(example.app, deps=mailer)
    clock.advance(timedelta(hours=24, seconds=-1))
    assert len((await drain(example.app, deps=mailer)).later) == 1
    clock.advance(1)
    await drain(example.app, deps=mailer)

    assert mailer.sent == [("invite", "ada@example.com"), ("reminder", "ada@example.com")]


@pytest.mark.parametrize(
    "payload",
    [
        {"invite_id": "7", "email": "ada@example.com"},
        {"invite_id": str(UUID(int=1)), "email": "ada"},
        {"invite_id": str(UUID(int=1))},
    ],
)
async def test_a_bad_id_or_address_is_refused(example: Any, payload: dict[str, str]) -> None:
    """SEED-082."""
    with pytest.raises(PayloadInvalid):
        await example.send_invite.enqueue(payload)
    assert len(await example.app.list()) == 0


async def test_the_catalog_is_the_map_of_types(example: Any, ada: Any) -> None:
    """SEED-080, SEED-081, SEED-083: dotted names, each with a payload and a function; any other is refused with the
    near miss.
    """
    assert {job_type.name for job_type in example.app.catalog} == {
        "email.sendInvite",
        "email.resendInvite",
        "email.remindInvite",
        "email.sendPasswordReset",
    }
    assert all(job_type.has_handler for job_type in example.app.catalog)
    with pytest.raises(UnknownJobType, match=r"email\.sendInvite"):
        await example.app.enqueue("email.sendInvit", ada)


async def test_a_payload_that_was_changed_in_the_queue_fails_once(
    example: Any, ada: Any, redis_socket_url: str, prefix: str
) -> None:
    """SEED-084: the worker checks it again."""
    mailer = example.Mailer()
    handle = await example.resend(ada)
    async with Queue("email", redis_socket_url, prefix=prefix) as queue:
        job = await queue.get_job(handle.id)
        assert job is not None
        await job.update_data({"invite_id": "7", "email": "mallory"})
    (failed,) = (await drain(example.app, deps=mailer)).failed
    (letter,) = await example.app.dead_letters.list()

    assert (failed.attempts, letter.reason, letter.error["type"]) == (1, "permanent", "PayloadInvalid")
    assert mailer.sent == []
