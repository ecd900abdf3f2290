"""Effects: of all that want to do an operation one does it, and what nobody knows is never repeated (SEED-033 to 037,
236, 257, 258).
"""

from __future__ import annotations

import asyncio

from sqlalchemy import delete

from support.ledger import NOW, complete, fail, put_in, record_at, start
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.database import Database
from taurine.ledger.effects import (
    EffectClaim,
    EffectState,
    begin_effect,
    finish_effect,
    forget_effect,
    resolve_effect,
    retake_effect,
)
from taurine.ledger.fences import fence_of
from taurine.ledger.schema import job


def _claim(job_id: str = "j", fence: int = 1, *, key: str = "charge:42", scope: str = "") -> EffectClaim:
    return EffectClaim(scope, key, job_id, fence)


async def _begin(database: Database, claim: EffectClaim) -> EffectState:
    return await database.write(lambda connection: begin_effect(connection, claim, NOW))


async def _finish(database: Database, claim: EffectClaim, result: str | None = '"ch_1"') -> bool:
    return await database.write(lambda connection: finish_effect(connection, claim, NOW + 5, result))


async def _forget(database: Database, claim: EffectClaim) -> bool:
    return await database.write(lambda connection: forget_effect(connection, claim))


async def _resolve(database: Database, claim: EffectClaim, seen: EffectState, result: str | None = '"found"') -> bool:
    return await database.write(lambda connection: resolve_effect(connection, claim, seen, NOW + 9, result))


async def _retake(database: Database, claim: EffectClaim, seen: EffectState) -> EffectState:
    return await database.write(lambda connection: retake_effect(connection, claim, seen, NOW + 9))


async def test_a_later_attempt_gets_the_stored_result(database: Database) -> None:
    """SEED-033, 034, 037: the second attempt finds the operation and skips it."""
    await put_in(database, "j", "other")

    assert await _begin(database, _claim()) == EffectState("begun", None, "j", 1)
    assert await _finish(database, _claim())

    done = EffectState("done", '"ch_1"', "j", 1)
    assert await _begin(database, _claim(fence=2)) == done
    assert await _begin(database, _claim("other")) == done
    assert await _begin(database, _claim(fence=fence_of(1, 1))) == done


async def test_an_effect_without_a_result_is_done_as_well(database: Database) -> None:
    await put_in(database, "j")
    await _begin(database, _claim())
    await _finish(database, _claim(), None)

    assert await _begin(database, _claim(fence=2)) == EffectState("done", None, "j", 1)


async def test_scopes_and_keys_do_not_meet(database: Database) -> None:
    await put_in(database, "j")

    states = [await _begin(database, _claim(scope=scope, key=key)) for scope in ("", "acme") for key in ("a", "b")]

    assert {state.status for state in states} == {"begun"}


async def test_a_crash_between_intent_and_result_leaves_the_unknown(database: Database) -> None:
    """SEED-236, 257: killed after the charge and before the commit; the retry finds the intent and does not charge
    again.
    """
    await put_in(database, "j")
    await _begin(database, _claim())

    seen = await _begin(database, _claim(fence=2))

    assert seen == EffectState("unknown", None, "j", 1)
    assert await _begin(database, _claim(fence=3)) == seen


async def test_a_look_up_says_that_it_happened(database: Database) -> None:
    """SEED-236: resolved at the provider."""
    await put_in(database, "j")
    await _begin(database, _claim())
    seen = await _begin(database, _claim(fence=2))

    assert await _resolve(database, _claim(fence=2), seen)

    assert not await _resolve(database, _claim(fence=2), seen, '"again"')
    assert (await _begin(database, _claim(fence=3))).result == '"found"'


async def test_a_look_up_says_that_it_did_not_happen(database: Database) -> None:
    await put_in(database, "j")
    await _begin(database, _claim())
    seen = await _begin(database, _claim(fence=2))

    assert await _retake(database, _claim(fence=2), seen) == EffectState("begun", None, "j", 2)

    assert not await _finish(database, _claim(fence=1), '"late"')
    assert await _finish(database, _claim(fence=2), '"mine"')
    assert await _begin(database, _claim(fence=3)) == EffectState("done", '"mine"', "j", 2)


async def test_of_all_that_look_up_at_once_one_retakes(database: Database, other_database: Database) -> None:
    await put_in(database, "gone", *(f"j{number}" for number in range(6)))
    await _begin(database, _claim("gone"))
    await fail(database, "gone")
    seen = await _begin(database, _claim("j0"))
    assert seen == EffectState("unknown", None, "gone", 1)

    states = await asyncio.gather(
        *(_retake((database, other_database)[n % 2], _claim(f"j{n}"), seen) for n in range(6)),
    )

    assert sorted(state.status for state in states) == ["begun"] + ["in_progress"] * 5


async def test_another_job_that_is_at_it(database: Database) -> None:
    """SEED-258: while its job is open it will come back to it; once that has ended nobody knows."""
    await put_in(database, "one", "two")
    await _begin(database, _claim("one"))

    assert await _begin(database, _claim("two")) == EffectState("in_progress", None, "one", 1)
    await complete(database, "one")
    assert await _begin(database, _claim("two")) == EffectState("unknown", None, "one", 1)


async def test_a_job_whose_record_is_gone_leaves_the_unknown(database: Database) -> None:
    await put_in(database, "one", "two")
    await _begin(database, _claim("one"))
    await database.write(lambda connection: connection.execute(delete(job).where(job.c.id == "one")))

    assert (await _begin(database, _claim("two"))).status == "unknown"


async def test_the_same_attempt_does_not_begin_twice(database: Database) -> None:
    await put_in(database, "j")
    await _begin(database, _claim())

    assert (await _begin(database, _claim())).status == "in_progress"


async def test_of_all_that_begin_at_once_one_does(database: Database, other_database: Database) -> None:
    """SEED-035, 258: the check and the write are one; the others learn that it is done, or being done."""
    for round_ in range(5):
        ids = [f"j{round_}:{number}" for number in range(8)]
        await put_in(database, *ids)
        claims = [_claim(job_id, key=f"charge:{round_}") for job_id in ids]
        views = (database, other_database)
        states = await asyncio.gather(*(_begin(views[n % 2], claim) for n, claim in enumerate(claims)))

        assert sorted(state.status for state in states) == ["begun"] + ["in_progress"] * 7
        [winner] = [claim for claim, state in zip(claims, states, strict=True) if state.status == "begun"]
        assert {state.job_id for state in states} == {winner.job_id}


async def test_a_clean_failure_is_forgotten(database: Database) -> None:
    """The provider refused before anything happened: the next attempt begins anew."""
    await put_in(database, "j")
    await _begin(database, _claim())

    assert not await _forget(database, _claim(fence=2))
    assert await _forget(database, _claim())
    assert not await _forget(database, _claim())

    assert (await _begin(database, _claim(fence=2))).status == "begun"
    await _finish(database, _claim(fence=2))
    assert not await _forget(database, _claim(fence=2))


async def test_finishing_may_be_repeated(database: Database) -> None:
    """SEED-036: the database went away, and nobody knows whether the result was written."""
    await put_in(database, "j")
    await _begin(database, _claim())

    assert await _finish(database, _claim())
    assert await _finish(database, _claim())
    assert not await _finish(database, _claim("other"))
    assert not await _finish(database, _claim(key="never begun"))


async def test_an_attempt_that_lost_its_job_begins_nothing(database: Database) -> None:
    """P4: nor does it once a later attempt has begun an effect; and a job that was cancelled does nothing more."""
    await put_in(database, "started", "acting", "cancelled")
    await start(database, "started", fence=2)
    await _begin(database, _claim("acting", 2, key="a"))
    await database.write(lambda connection: request_cancel(connection, "cancelled", NOW, "stop"))

    for job_id in ("started", "acting", "cancelled"):
        state = await _begin(database, _claim(job_id, 1, key=f"b:{job_id}"))
        assert state == EffectState("superseded", None, job_id, 1)
    assert (await record_at(database, "acting")).fence == 2
    seen = EffectState("unknown", None, "x", 1)
    assert (await _retake(database, _claim("acting", 1, key="a"), seen)).status == "superseded"
    assert (await _begin(database, _claim("started", 2, key="b:started"))).status == "begun"


async def test_a_job_without_a_record_may_have_effects(database: Database) -> None:
    """It was put into the queue by a producer that keeps no records."""
    assert (await _begin(database, _claim("native"))).status == "begun"
    assert (await _begin(database, _claim("native", 2))).status == "unknown"
