"""A worker over real servers, until nothing is left to do."""

from __future__ import annotations

import asyncio

import pytest

from taurine import Context, Fixed, InvalidOption, Permanent, Retry, Snooze, Taurine
from taurine.testing import AppFactory, DrainTimeout, Recorder, TestClock, drain, drain_sync

pytest_plugins = ["taurine.testing.fixtures"]


async def test_what_became_of_each_job_is_told(taurine_app: Taurine) -> None:
    """SEED-075, PEER-24: end to end on a private server, drained."""

    @taurine_app.job("word.shout", retry=Retry(attempts=2, backoff=Fixed(3600)))
    async def shout(word: str) -> str:
        match word:
            case "dead":
                raise Permanent("no")
            case "again":
                raise ConnectionError("later")
            case "asleep":
                raise Snooze(3600)
            case _:
                return word.upper()

    before = await shout.enqueue("before")
    await drain(taurine_app)
    for word in ("moo", "dead", "again", "asleep"):
        await shout.enqueue(word)
    await shout.enqueue("delayed", delay=3600)

    drained = await drain(taurine_app)

    assert [record.output for record in drained.completed] == ["MOO"]
    assert [record.payload for record in drained.failed] == ["dead"]
    assert [(record.payload, record.status) for record in drained.later] == [
        ("again", "retrying"),
        ("asleep", "waiting"),
        ("delayed", "queued"),
    ]
    assert before.id not in drained, "it had ended before"
    assert len(drained.of(shout)) == len(drained) == 5
    assert str(drained) == "1 completed, 1 failed, 3 later"


async def test_what_jobs_enqueue_is_drained_too(taurine_app: Taurine) -> None:
    @taurine_app.job("number.count")
    async def count(number: int) -> None:
        if number:
            await count.enqueue(number - 1)

    await count.enqueue(5)

    assert len((await drain(taurine_app)).completed) == 6


async def test_a_retry_without_a_pause_is_waited_for(taurine_app: Taurine) -> None:
    @taurine_app.job("word.say", retry=Retry(attempts=5, backoff=Fixed(0)))
    async def say(word: str, ctx: Context) -> str:
        if ctx.attempt < 5:
            raise ConnectionError
        return word

    await say.enqueue("x")

    assert (await drain(taurine_app)).completed[0].attempts == 5


async def test_a_test_clock_is_moved_to_what_is_due(taurine_app_factory: AppFactory, taurine_clock: TestClock) -> None:
    """Delays, pauses before retries and snoozes go by the application's clock."""
    app = taurine_app_factory(clock=taurine_clock)
    start = taurine_clock.datetime
    seen: list[int] = []

    @app.job("word.say", retry=Retry(attempts=3, backoff=Fixed(600)))
    async def say(word: str, ctx: Context) -> str:
        seen.append(round((taurine_clock.datetime - start).total_seconds()))
        if len(seen) == 2:
            raise Snooze(60)
        if ctx.attempt < 3:
            raise ConnectionError
        return word

    await say.enqueue("x", delay=3600)
    assert len((await drain(app)).later) == 1
    taurine_clock.advance(3599)
    assert len((await drain(app)).later) == 1

    drained = await drain(app, until="ended")

    assert len(drained.completed) == 1
    assert seen == [3600, 4200, 4260, 4860]


async def test_a_function_says_when_it_is_over(taurine_app: Taurine) -> None:
    said: list[str] = []

    @taurine_app.job("word.say")
    async def say(word: str) -> None:
        said.append(word)

    await say.enqueue("x")
    await say.enqueue("later", delay=3600)
    drained = await drain(taurine_app, until=lambda: bool(said))

    assert len(drained.later) == 1


async def test_what_is_stuck_is_named_with_its_reason(taurine_app: Taurine) -> None:
    @taurine_app.job("word.say", queue="words")
    async def say(word: str) -> None:
        await asyncio.sleep(30)

    handle = await say.enqueue("x")
    elsewhere = taurine_app.declare("word.sing", str, queue="words")
    other = await elsewhere.enqueue("y")

    with pytest.raises(DrainTimeout) as raised:
        await drain(taurine_app, timeout=0.6)

    message = str(raised.value)
    assert "2 jobs have not ended within 0.6 s" in message
    assert handle.id in message
    assert other.id in message
    assert {why.job_id for why in raised.value.stuck} == {handle.id, other.id}
    assert all(why.sentence in message for why in raised.value.stuck)
    assert (await handle.record()).attempts == 0, "it was handed back"


async def test_under_a_recorder_there_is_nothing_to_drain(taurine_app: Taurine) -> None:
    @taurine_app.job("word.say")
    async def say(word: str) -> None: ...

    with Recorder(taurine_app), pytest.raises(InvalidOption, match=r"recorder\.run"):
        await drain(taurine_app)
    with pytest.raises(InvalidOption, match="expected until"):
        await drain(taurine_app, until="soon")  # pyright: ignore[reportArgumentType] - that it is refused is the point


def test_without_an_event_loop(taurine_app: Taurine) -> None:
    @taurine_app.job("word.say")
    def say(word: str, ctx: Context) -> str:
        return f"{ctx.deps} says {word}"

    handle = say.enqueue_sync("moo")

    assert drain_sync(taurine_app, deps="the cow")[handle.id].output == "the cow says moo"
