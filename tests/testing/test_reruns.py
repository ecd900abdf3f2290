"""Whether a handler may run again, and break off anywhere."""

from __future__ import annotations

import pytest

from taurine import Context, Fixed, InvalidOption, Permanent, Pipeline, Retry, Snooze, Taurine
from taurine.testing import run_at_failpoints, run_at_failpoints_sync, run_twice, run_twice_sync


@pytest.fixture
def app() -> Taurine:
    return Taurine("test")


@pytest.fixture
def rows() -> dict[str, int]:
    """What is outside."""
    return {}


async def test_the_same_state_once_or_ten_times(app: Taurine, rows: dict[str, int]) -> None:
    """SEED-127: every job gives the same state whether it runs once or ten times."""

    @app.job("user.sync")
    async def upsert(user: str) -> str:
        known = user in rows
        rows[user] = 1
        return "already_processed" if known else "processed"

    report = await run_twice(upsert, "ada", outside=lambda: rows, times=10)

    assert len(report.reruns) == 10
    assert [rerun.attempts[0].result for rerun in report.reruns] == ["processed", *["already_processed"] * 9]
    assert report.outside == {"ada": 1}


async def test_a_second_run_that_does_more_is_shown(app: Taurine, rows: dict[str, int]) -> None:
    """SEED-216: the double-run check finds a job that is not idempotent."""

    @app.job("balance.add")
    async def add(user: str) -> None:
        rows[user] = rows.get(user, 0) + 1

    with pytest.raises(AssertionError) as raised:
        await run_twice(add, "ada", outside=lambda: rows)
    assert "1 of 2 runs went wrong" in str(raised.value)
    assert "-{'ada': 1}\n+{'ada': 2}" in str(raised.value)


async def test_an_effect_with_a_key_survives_every_point(app: Taurine, rows: dict[str, int]) -> None:
    """SEED-127, SEED-216: at each failpoint; the memo is kept over "crashes", and a look-up settles what is unknown."""

    def charge(user: str) -> int:
        rows[user] = rows.get(user, 0) + 1
        return rows[user]

    @app.job("card.charge", retry=Retry(attempts=2, backoff=Fixed(60)))
    async def pay(user: str, ctx: Context) -> int:
        charged = await ctx.once(f"charge:{user}", charge, user, look_up=lambda: rows.get(user))
        ctx.progress(1, 2)
        if ctx.attempt == 1:
            raise ConnectionError("after the charge")
        await ctx.save()
        return charged

    report = await run_at_failpoints(pay, "ada", outside=lambda: rows, reset=rows.clear)

    assert report.outside == {"ada": 1}
    assert report.points == [
        "before once 'charge:ada'",
        "in once 'charge:ada', before its call",
        "in once 'charge:ada', after its call",
        "after once 'charge:ada'",
        "progress 1 of 2",
        "progress 1 of 2, just saved",
        "the end of attempt 1, retrying",
        "before once 'charge:ada'",
        "progress 1 of 2",
        "progress 1 of 2, just saved",
        "before a save",
        "after a save",
        "the end of attempt 2, completed",
    ]


async def test_without_a_look_up_somebody_has_to_look(app: Taurine, rows: dict[str, int]) -> None:
    @app.job("card.charge")
    async def pay(user: str, ctx: Context) -> None:
        await ctx.once(f"charge:{user}", rows.setdefault, user, 1)

    with pytest.raises(AssertionError) as raised:
        await run_at_failpoints(pay, "ada", outside=lambda: rows, reset=rows.clear)
    message = str(raised.value)
    assert "2 of 5 failpoints went wrong" in message
    assert "The process dies at point 3: in once 'charge:ada', after its call" in message
    assert "Give ctx.once a look_up" in message

    await run_at_failpoints(pay, "ada", outside=lambda: rows, reset=rows.clear, unknown="allow")


async def test_a_cursor_that_runs_ahead_of_its_row_is_found(app: Taurine, rows: dict[str, int]) -> None:
    """A worker saves state whenever it likes: one that says more than was done loses a row."""

    @app.job("rows.copy")
    async def copy(count: int, ctx: Context) -> None:
        for row in range(ctx.state.get("next", 0), count):
            ctx.state["next"] = row + 1
            ctx.progress(row, count)
            rows[str(row)] = 1

    with pytest.raises(AssertionError) as raised:
        await run_at_failpoints(copy, 3, outside=lambda: rows, reset=rows.clear)
    assert "progress 1 of 3, just saved" in str(raised.value)
    assert "progress 1 of 3\n" not in str(raised.value), "without a save the row is written again"

    @app.job("rows.move")
    async def move(count: int, ctx: Context) -> None:
        for row in ctx.track(range(ctx.state.get("next", 0), count), done=ctx.state.get("next", 0)):
            rows[str(row)] = 1
            ctx.state["next"] = row + 1

    assert (await run_at_failpoints(move, 3, outside=lambda: rows, reset=rows.clear)).outside == dict.fromkeys("012", 1)


async def test_what_is_done_after_the_last_point_is_done_again(app: Taurine, rows: dict[str, int]) -> None:
    """The end of the handler, before anybody has recorded it, is a point of every job."""

    @app.job("mail.send")
    async def send(user: str) -> None:
        rows[user] = rows.get(user, 0) + 1

    with pytest.raises(AssertionError, match="the end of attempt 1, completed"):
        await run_at_failpoints(send, "ada", outside=lambda: rows, reset=rows.clear)


def test_plain_handlers_async_snapshots_and_tests_without_a_loop(app: Taurine, rows: dict[str, int]) -> None:
    async def outside() -> dict[str, int]:
        return rows

    async def reset() -> None:
        rows.clear()

    @app.job("file.write")
    def write(name: str, ctx: Context) -> None:
        ctx.once_sync(f"write:{name}", rows.setdefault, name, 1, look_up=lambda: rows.get(name))
        ctx.save_sync()

    report = run_at_failpoints_sync(write, "a", outside=outside, reset=reset)
    assert len(report.points) == 7
    run_twice_sync(write, "b", outside=outside)


async def test_a_dying_process_does_nothing_more(app: Taurine, rows: dict[str, int]) -> None:
    """What a handler would still say in a `finally` is not said: its process is gone."""

    @app.job("word.say")
    async def say(word: str, ctx: Context) -> None:
        try:
            ctx.progress(1, 2)
        finally:
            ctx.progress(2, 2)
            rows[word] = rows.get(word, 0) + 1

    report = await run_twice(say, "x", outside=lambda: len(rows))
    assert report.outside == 1
    with pytest.raises(AssertionError, match="1 of 5 failpoints went wrong"):
        await run_at_failpoints(say, "x", outside=lambda: dict(rows), reset=rows.clear)


async def test_a_job_that_never_ends_well_says_so(app: Taurine, rows: dict[str, int]) -> None:
    @app.job("word.say")
    async def say(word: str) -> None:
        raise Permanent("never") if word == "x" else Snooze(1)

    with pytest.raises(AssertionError, match=r"the undisturbed run did not end well.*never"):
        await run_at_failpoints(say, "x", outside=lambda: rows, reset=rows.clear)
    with pytest.raises(AssertionError, match=r"first run did not end well[\s\S]*never"):
        await run_twice(say, "x", outside=lambda: rows)
    with pytest.raises(AssertionError, match="has not ended after 50 attempts"):
        await run_twice(say, "y", outside=lambda: rows)
    with pytest.raises(InvalidOption, match="attempt"):
        await run_twice(say, "y", outside=lambda: rows, attempt=2)


async def test_of_very_many_points_some_are_left_out(app: Taurine, rows: dict[str, int]) -> None:
    @app.job("rows.count")
    async def count(number: int, ctx: Context) -> None:
        for _ in ctx.track(range(number)):
            pass

    report = await run_at_failpoints(count, 50, outside=lambda: rows, reset=rows.clear, most=10)

    assert (len(report.points), report.left_out) == (10, 91)
    assert (report.points[0], report.points[-1]) == ("progress 1 of 50", "the end of attempt 1, completed")


async def test_a_pipeline_breaks_off_at_each_of_its_stages(app: Taurine, rows: dict[str, int]) -> None:
    def load(user: str) -> str:
        return user.title()

    async def write(name: str) -> str:
        rows[name] = rows.get(name, 0) + 1
        return name

    job = app.pipeline(Pipeline("user.sync", [load, write]))
    with pytest.raises(AssertionError) as raised:
        await run_at_failpoints(job, "ada", outside=lambda: rows, reset=rows.clear)

    message = str(raised.value)
    assert "-{'Ada': 1}\n+{'Ada': 2}" in message
    assert "The process dies at point 1:" not in message, "nothing was done by then"
