"""Lesson 7: an attempt may fail after it has done something, so what must not happen twice goes through `ctx.once`."""

from __future__ import annotations

from taurine import Context, Fixed, Retry, Taurine

TWICE = Retry(attempts=2, backoff=Fixed(0.01))


async def test_a_retry_repeats_what_the_handler_did(app: Taurine) -> None:
    """SEED-012: retries help against faults that pass; to an effect outside they are a danger."""
    mails: list[str] = []

    @app.job("receipt.mail", retry=TWICE)
    async def mail(address: str, ctx: Context) -> None:
        mails.append(address)
        if ctx.attempt == 1:
            raise ConnectionError("after the mail was sent")

    async with app.worker():
        await (await mail.enqueue("ada@example.com")).result(timeout=10)

    assert len(mails) == 2


async def test_an_operation_with_a_key_is_done_once(app: Taurine) -> None:
    """SEED-012: the later attempt gets the stored result, and the function is not called again."""
    mails: list[str] = []

    async def send(address: str) -> str:
        mails.append(address)
        return f"m-{len(mails)}"

    @app.job("receipt.mail", retry=TWICE)
    async def mail(address: str, ctx: Context) -> str:
        message = await ctx.once(f"receipt:{ctx.job_id}", send, address)
        if ctx.attempt == 1:
            raise ConnectionError("after the mail was sent")
        return message

    async with app.worker():
        assert await (await mail.enqueue("ada@example.com")).result(timeout=10) == "m-1"

    assert len(mails) == 1
