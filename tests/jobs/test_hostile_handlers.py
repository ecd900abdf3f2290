"""What handlers make of themselves: endless texts, errors that cannot be looked at.

The job ends, what is kept is bounded, and the worker goes on (A17, A19).
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from taurine.app import Taurine
from taurine.errors import JobFailed
from taurine.jobs.handler.context import Context
from taurine.retry import Retry

MIB = 1024 * 1024


class Raises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> str:
        return 7  # type: ignore[return-value] # noqa: PLE0307 # pyright: ignore[reportReturnType] - what is tested

    __repr__ = __str__


class ForEver(Exception):
    def __str__(self) -> str:
        return str(self)

    __repr__ = __str__


class Exits(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class Locked(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise LookupError(name)


def in_a_circle() -> BaseException:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__context__ = second, first
    return first


def deep() -> BaseException:
    error: BaseException = ValueError("innermost")
    for _ in range(2000):
        error = ExceptionGroup("group", [error])  # type: ignore[list-item] # pyright: ignore[reportArgumentType]
    return error


ERRORS: dict[str, Any] = {
    "raises": Raises,
    "no text": NoText,
    "for ever": ForEver,
    "exits": Exits,
    "locked": Locked,
    "a circle": in_a_circle,
    "deep": deep,
    "long": lambda: ValueError("x" * 20 * MIB),
    "long lines": lambda: ValueError("x\n" * MIB),
    "halves of pairs": lambda: ValueError("\ud800\0\udfff"),
}


@pytest.mark.parametrize("kind", ERRORS)
async def test_an_error_that_cannot_be_looked_at_fails_its_job_and_no_other(app: Taurine, kind: str) -> None:
    """A17, A19: and what is kept of it is short."""

    @app.job("hostile", queue="hostile", retry=Retry.NONE)
    async def hostile(name: str) -> None:
        if name in ERRORS:
            raise ERRORS[name]()

    async with app.worker():
        handle = await hostile.enqueue(kind)
        with pytest.raises(JobFailed):
            await handle.result(timeout=20)
        await (await hostile.enqueue("fine")).result(timeout=20)
    record = await app.get(handle.id)
    assert record is not None
    assert record.status == "failed"
    assert 0 < len(str(record.error)) < 100_000


async def test_a_result_of_any_size_ends_the_job(app: Taurine) -> None:
    """A17: above the limit it is not kept; the error says how large it was, and the worker goes on."""

    @app.job("large", queue="large", retry=Retry.NONE)
    async def large(size: int) -> str:
        return "x" * size

    async with app.worker():
        with pytest.raises(JobFailed, match="above the limit of 1,048,576"):
            await (await large.enqueue(40 * MIB)).result(timeout=20)
        assert len(await (await large.enqueue(MIB - 10)).result(timeout=20)) == MIB - 10


async def test_lines_without_end_are_kept_up_to_their_number_and_size(
    app: Taurine, caplog: pytest.LogCaptureFixture
) -> None:
    """A17: the handler is not held up, and what waits in memory and what is kept are bounded."""
    waiting: list[int] = []

    @app.job("noisy", queue="noisy", retry=Retry.NONE)
    async def noisy(_: None, ctx: Context) -> None:
        for _number in range(2000):
            ctx.log.info("x" * 1000)
        waiting.append(len(ctx.lines))
        ctx.lines.clear()
        ctx.log.info("x" * MIB, data="y" * MIB)
        ctx.progress(1, 2, "z" * MIB)
        waiting.append(sum(len(line.message) + len(line.fields or "") for line in ctx.lines))
        waiting.append(len(str(ctx.progress_value)))

    with caplog.at_level(logging.ERROR):
        async with app.worker():
            handle = await noisy.enqueue(None)
            await handle.result(timeout=20)
    assert waiting[0] <= 1000
    assert waiting[1] < 100_000
    assert waiting[2] < 100_000
    (line,) = await app.logs(handle.id)
    assert len(line.message) < 20_000
