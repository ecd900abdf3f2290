"""`ctx.once`: a side effect that happens once, with its intent committed before and its result after."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

from taurine.clock import Clock
from taurine.errors import EffectInProgress, EffectUnknown, PayloadError, Release
from taurine.jobs.context import Context
from taurine.jobs.lines import line_fields, log
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

__all__ = ["LedgerEffects"]

LookUp = Callable[[], Any]


class LedgerEffects:
    """Keeps effects in the ledger."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def once(
        self,
        context: Context,
        key: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        look_up: LookUp | None,
    ) -> Any:
        """See `Context.once`."""
        claim = EffectClaim(context.tenant or "", key, context.job_id, context.fence)
        state = await self._database.write(lambda connection: begin_effect(connection, claim, self._now_ms()))
        if state.status == "unknown" and look_up is not None:
            state = await self._looked_up(claim, state, look_up)
        if state.status == "done":
            log.info("effect %s was done before: its result is given back", key, extra=line_fields(context))
            return None if state.result is None else json.loads(state.result)
        if state.status == "superseded":
            raise Release(f"a later attempt of job {context.job_id!r} has begun")
        if state.status == "in_progress":
            raise EffectInProgress(f"the effect {key!r} is being done by job {state.job_id!r}", key=key)
        if state.status == "unknown":
            raise EffectUnknown(
                f"an attempt of job {state.job_id!r} meant to do {key!r} and ended before it said whether it did; give ctx.once a look_up that finds out",
                key=key,
            )
        return await self._do(claim, function, arguments)

    async def _looked_up(self, claim: EffectClaim, seen: EffectState, look_up: LookUp) -> EffectState:
        """What a look-up makes of an effect of which nobody knew."""
        found = await _called(look_up)
        now = self._now_ms()
        if found is None:
            return await self._database.write(lambda connection: retake_effect(connection, claim, seen, now))
        result = _encoded(found, claim.key)
        await self._database.write(lambda connection: resolve_effect(connection, claim, seen, now, result))
        return seen._replace(status="done", result=result)

    async def _do(self, claim: EffectClaim, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        try:
            value = await _called(function, *arguments)
        except Exception:
            # It says itself that it did not happen. Being cut off (a cancel, a crash) says nothing, and leaves the intent.
            await self._database.write(lambda connection: forget_effect(connection, claim))
            raise
        result = _encoded(value, claim.key)
        await self._database.write(lambda connection: finish_effect(connection, claim, self._now_ms(), result))
        return json.loads(result)

    def _now_ms(self) -> int:
        return round(self._clock.now() * 1000)


async def _called(function: Callable[..., Any], *arguments: Any) -> Any:
    value = function(*arguments)
    return await value if inspect.isawaitable(value) else value


def _encoded(value: Any, key: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise PayloadError(
            f"the result of the effect {key!r} cannot be stored as JSON: {error}; return plain data"
        ) from None
