"""Lesson 8: a job that fails for good leaves one entry, which somebody looks at and deals with."""

from __future__ import annotations

import pytest

from taurine import JobFailed, JobType, Permanent, Retry, Taurine


@pytest.fixture
def print_label(app: Taurine) -> JobType[str, str]:
    @app.job("label.print", queue="labels", retry=Retry.NONE)
    async def print_label(printer: str) -> str:
        if printer == "broken":
            raise Permanent("out of paper")
        return f"printed on {printer}"

    return print_label


async def test_it_says_what_happened(app: Taurine, print_label: JobType[str, str]) -> None:
    async with app.worker():
        handle = await print_label.enqueue("broken")
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)

    (letter,) = await app.dead_letters.list(queue="labels")
    assert (letter.job_id, letter.type, letter.reason) == (handle.id, "label.print", "permanent")
    assert letter.error is not None
    assert (letter.payload, letter.error["message"]) == ("broken", "out of paper")


async def test_it_is_redriven_as_it_was_or_corrected(app: Taurine, print_label: JobType[str, str]) -> None:
    async with app.worker():
        handle = await print_label.enqueue("broken")
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        (letter,) = await app.dead_letters.list()

        await app.dead_letters.redrive(letter, payload="the office's", user="ada")
        assert await handle.result(timeout=10) == "printed on the office's"

    assert await app.dead_letters.depth() == {}
    assert [(entry.actor, entry.action) for entry in await app.audit(handle.id)] == [("ada", "redrive")]


async def test_it_is_discarded_and_the_record_stays(app: Taurine, print_label: JobType[str, str]) -> None:
    async with app.worker():
        handle = await print_label.enqueue("broken")
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    (letter,) = await app.dead_letters.list()

    await app.dead_letters.discard(letter, user="ada")

    assert await app.dead_letters.depth() == {}
    assert (await handle.record()).status == "failed"
