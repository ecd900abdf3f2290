"""Lesson 6: a long job tells how far it is, and goes on where its last attempt stopped."""

from __future__ import annotations

from taurine import Context, Fixed, Retry, Taurine

TWICE = Retry(attempts=2, backoff=Fixed(0.01))


async def test_progress_is_in_the_record(app: Taurine) -> None:
    @app.job("rows.import")
    async def import_rows(total: int, ctx: Context) -> None:
        await ctx.progress(total // 2, total, "half-way")
        raise RuntimeError("the database went away")

    async with app.worker():
        handle = await import_rows.enqueue(10)
        while (await handle.record()).status not in ("retrying", "failed"):
            await app.wait(handle.id, timeout=0.01)

    progress = (await handle.record()).progress
    assert progress is not None
    assert (progress["done"], progress["total"], progress["percentage"], progress["message"]) == (5, 10, 50, "half-way")


async def test_track_goes_over_items_and_counts_them(app: Taurine) -> None:
    @app.job("rows.import")
    async def import_rows(total: int, ctx: Context) -> int:
        return sum(1 for _ in ctx.track(range(total)))

    async with app.worker():
        handle = await import_rows.enqueue(100)
        assert await handle.result(timeout=10) == 100

    progress = (await handle.record()).progress
    assert progress is not None
    assert progress["percentage"] == 100


async def test_state_is_given_to_the_next_attempt(app: Taurine) -> None:
    seen: list[int] = []

    @app.job("rows.import", retry=TWICE)
    async def import_rows(total: int, ctx: Context) -> None:
        for row in range(ctx.state.get("next", 0), total):
            if row == 6 and ctx.attempt == 1:
                raise ConnectionError("the database went away")
            seen.append(row)
            ctx.state["next"] = row + 1

    async with app.worker():
        await (await import_rows.enqueue(10)).result(timeout=10)

    assert seen == list(range(10)), "each row once, although there were two attempts"
