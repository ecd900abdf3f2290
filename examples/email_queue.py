"""A queue of e-mails: retries with growing pauses, limits, and dead letters that are mended and sent after all.

    python examples/email_queue.py

An address that is busy gets its letter in a later attempt. A server that stays away makes a dead letter, which is also shown in the BullMQ queue
`email-dlq` for dashboards that know nothing of Taurine. When the server is back the letter is redriven.
"""

import asyncio
import logging
import time

from pydantic import BaseModel

from taurine import Context, EveryTime, Exponential, JobFailed, JobHandle, Keep, RateLimit, Retry, Taurine

DAY = 24 * 3600

app = Taurine("post-office")
app.queue("email", rate_limit=RateLimit(100, 60), dead_letter_queue="email-dlq")


class Email(BaseModel):
    to: str
    template: str
    variables: dict[str, str] = {}


class Sent(BaseModel):
    message_id: str
    attempt: int


class MailServer:
    """In place of your provider. The first letters to `busy` are refused, and all of them while `away`."""

    def __init__(self) -> None:
        self.delivered: list[str] = []
        self.busy = {"grace@example.com": 2}
        self.away: set[str] = set()

    async def send(self, email: Email) -> str:
        if self.busy.get(email.to, 0) > 0:
            self.busy[email.to] -= 1
            raise ConnectionError("450 mailbox busy")
        if email.to in self.away:
            raise ConnectionError("421 service not available")
        self.delivered.append(email.to)
        return f"<{len(self.delivered)}@mail.example.com>"


@app.job(
    "email.send",
    queue="email",
    job_id=EveryTime("email:{to}:{template}"),  # each call is a letter; the first words say whose
    retry=Retry(attempts=5, backoff=Exponential(2.0, jitter=0.2)),
    timeout=30,
    keep_completed=Keep(age=DAY, count=1000),
    keep_failed=Keep(age=7 * DAY, count=5000),
)
async def deliver(email: Email, ctx: Context) -> Sent:
    server: MailServer = ctx.deps
    ctx.log.info("sending", template=email.template, attempt=ctx.attempt)
    began = time.monotonic()
    message_id = await server.send(email)
    ctx.log.info("sent", message_id=message_id, seconds=round(time.monotonic() - began, 3))
    return Sent(message_id=message_id, attempt=ctx.attempt)


async def send_email(
    to: str,
    template: str,
    variables: dict[str, str] | None = None,
    *,
    priority: int = 0,
    delay: float = 0,
    retry: Retry = deliver.options.retry,
) -> JobHandle[Sent]:
    """What the rest of the code calls. delay: seconds."""
    email = Email(to=to, template=template, variables=variables or {})
    return await deliver.enqueue(email, priority=priority, delay=delay, retry=retry)


async def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    server = MailServer()
    server.away.add("linus@example.com")
    soon = Retry(attempts=5, backoff=Exponential(0.05))  # a demonstration does not wait half a minute

    async with app, app.worker(concurrency=10, deps=server):
        ada = await send_email("ada@example.com", "welcome", {"name": "Ada"})
        grace = await send_email("grace@example.com", "welcome", {"name": "Grace"}, retry=soon)
        linus = await send_email("linus@example.com", "invoice", priority=1, retry=soon)
        print("ada: sent in attempt", (await ada.result(timeout=30)).attempt)
        print("grace: sent in attempt", (await grace.result(timeout=30)).attempt)
        try:
            await linus.result(timeout=30)
        except JobFailed:
            [letter] = await app.dead_letters.list(job_id=linus.id)
            print(f"linus: dead after {letter.attempts} attempts: {letter.error['message']}")

            server.away.clear()
            await app.dead_letters.redrive(letter, user="operator@example.com")
            print("linus: sent after all, in attempt", (await linus.result(timeout=30)).attempt)
    print(len(server.delivered), "letters delivered")


if __name__ == "__main__":
    asyncio.run(main())
