"""Lesson 10: a handler takes the payload apart and delegates; what the job is about lives in a service that knows no
queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from taurine import Context, JobFailed, JobType, Permanent, Taurine


class UserNotFound(Exception):
    pass


@dataclass
class Users:
    """The service: loads by id, raises when there is nobody, sends."""

    addresses: dict[str, str]
    sent: list[str] = field(default_factory=list[str])

    def send_invite(self, user_id: str) -> str:
        if user_id not in self.addresses:
            raise UserNotFound(f"no user {user_id!r}")
        self.sent.append(self.addresses[user_id])
        return f"m-{len(self.sent)}"


class Invite(BaseModel):
    """Ids and references only: what they stand for is loaded when the job runs."""

    user_id: str


@pytest.fixture
def send_invite(app: Taurine) -> JobType[Invite, str]:
    @app.job("invite.send")
    async def send_invite(invite: Invite, ctx: Context) -> str:
        users: Users = ctx.deps
        try:
            return users.send_invite(invite.user_id)
        except UserNotFound as error:
            raise Permanent(str(error)) from error

    return send_invite


def test_the_service_is_tested_without_a_job() -> None:
    """SEED-093, SEED-094."""
    users = Users({"ada": "ada@example.com"})

    assert users.send_invite("ada") == "m-1"
    with pytest.raises(UserNotFound):
        users.send_invite("nobody")


async def test_the_handler_is_tested_by_calling_it(send_invite: JobType[Invite, str]) -> None:
    """SEED-076, SEED-059: no worker, and fakes for what is handed in."""
    users = Users({"ada": "ada@example.com"})
    context: Any = SimpleNamespace(deps=users, attempt=1)

    assert await send_invite(Invite(user_id="ada"), context) == "m-1"
    with pytest.raises(Permanent, match="nobody"):
        await send_invite(Invite(user_id="nobody"), context)


async def test_together(app: Taurine, send_invite: JobType[Invite, str]) -> None:
    """SEED-093, SEED-094: what is not found will not be found by the next attempt, so there is one."""
    users = Users({"ada": "ada@example.com"})

    async with app.worker(deps=users):
        found = await send_invite.enqueue(Invite(user_id="ada"))
        missing = await send_invite.enqueue(Invite(user_id="nobody"))
        assert await found.result(timeout=10) == "m-1"
        with pytest.raises(JobFailed, match="no user 'nobody'"):
            await missing.result(timeout=10)

    assert users.sent == ["ada@example.com"]
    assert (await missing.record()).attempts == 1
