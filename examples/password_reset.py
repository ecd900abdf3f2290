"""Invitations and password resets: three answers to "is this the same job as the last one?".

    python examples/password_reset.py

An invitation is sent once, however often somebody clicks. A reset is sent once a minute, so that a double click makes one mail and a second try in an hour another.
"Send it again" is meant, so each click is a mail. The choice stands with the job type, as `job_id=`; whoever enqueues need not think of it, nor make up time stamps.

In production the worker is a process of its own: `taurine --app examples.password_reset:app worker`, with `--reload` while you write it.
"""

import asyncio
from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel, Field

from taurine import Context, EveryTime, JobHandle, OncePer, Retry, Taurine

app = Taurine("accounts", default_queue="email")

ADDRESS = r"^[^@\s]+@[^@\s]+\.[^@\s]+$"


class Invite(BaseModel):
    invite_id: UUID
    email: str = Field(pattern=ADDRESS)


class PasswordReset(BaseModel):
    user_id: UUID
    email: str = Field(pattern=ADDRESS)


class Mailer:
    """In place of your provider."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send(self, template: str, to: str) -> None:
        self.sent.append((template, to))


@app.job("email.sendInvite", job_id="invite-email:{invite_id}", retry=Retry.EMAIL)
async def send_invite(invite: Invite, ctx: Context) -> None:
    mailer: Mailer = ctx.deps
    mailer.send("invite", invite.email)


@app.job("email.resendInvite", job_id=EveryTime("invite-resend:{invite_id}"), retry=Retry.EMAIL)
async def resend_invite(invite: Invite, ctx: Context) -> None:
    mailer: Mailer = ctx.deps
    mailer.send("invite, again", invite.email)


@app.job("email.remindInvite", job_id="invite-reminder:{invite_id}", retry=Retry.EMAIL)
async def remind_invite(invite: Invite, ctx: Context) -> None:
    mailer: Mailer = ctx.deps
    mailer.send("reminder", invite.email)


@app.job(
    "email.sendPasswordReset",
    job_id=OncePer("password-reset:{user_id}", timedelta(minutes=1)),
    retry=Retry.EMAIL,
    expires_in=timedelta(minutes=15),  # the link in it is of no use any more
)
async def send_password_reset(reset: PasswordReset, ctx: Context) -> None:
    mailer: Mailer = ctx.deps
    mailer.send("password reset", reset.email)


# What the endpoints call. The tag finds all mails of one invitation, whatever their ids.


async def invite(invited: Invite) -> JobHandle[None]:
    tags = [f"invite:{invited.invite_id}"]
    await remind_invite.enqueue(invited, delay=timedelta(hours=24), tags=tags)
    return await send_invite.enqueue(invited, tags=tags)


async def resend(invited: Invite) -> JobHandle[None]:
    return await resend_invite.enqueue(invited, tags=[f"invite:{invited.invite_id}"])


async def forgot_password(reset: PasswordReset) -> JobHandle[None]:
    return await send_password_reset.enqueue(reset)


async def main() -> None:
    mailer = Mailer()
    ada = Invite(invite_id=UUID(int=1), email="ada@example.com")
    grace = PasswordReset(user_id=UUID(int=2), email="grace@example.com")
    async with app, app.worker(deps=mailer):
        clicks = [await invite(ada), await invite(ada), await resend(ada), await resend(ada)]
        clicks += [await forgot_password(grace), await forgot_password(grace)]
        for handle in clicks:
            await handle.result(timeout=30)
            print(handle.id.partition(":")[0], "- the same job" if handle.duplicate else "- a job")
        reminder = await app.get(f"invite-reminder:{ada.invite_id}")
        assert reminder is not None
        assert reminder.scheduled_for is not None
        print("reminder in", round((reminder.scheduled_for - reminder.created_at).total_seconds() / 3600), "hours")
    print(len(mailer.sent), "mails")


if __name__ == "__main__":
    asyncio.run(main())
