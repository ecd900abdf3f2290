"""`ctx.once`: a side effect that happens once, with its intent committed before and its result after.

What is to be done is one sequence for all (`steps_of`), and says at each step what it needs next: an answer of the
ledger, or a call of the caller's own function. Who runs it decides how: on the event loop, in a thread, or in a process
at the other end of a line.

The intent is written before the call, and what became of it after. What is cut off in between (a crash, a cancel, a
time limit) leaves the intent, and with it the question whether it happened; so does an error of the function that does
not prove that nothing happened.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Literal, NamedTuple, TypeAlias

from taurine.clock import Clock, now_ms
from taurine.errors import EffectInProgress, EffectUnknown, InvalidOption, LedgerUnavailable, PayloadError, Release
from taurine.jobs.reporting.lines import log
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
from taurine.pauses import waited_out
from taurine.queue.wire import encode_json
from taurine.retry import leaves_open

__all__ = ["Ask", "EffectLedger", "NotDone", "Steps", "answered", "answered_sync", "steps_of"]

LookUp: TypeAlias = Callable[[], Any]
NotDone: TypeAlias = tuple[type[Exception], ...]


class Ask(NamedTuple):
    """A question for the ledger. result: JSON text. seen: the state that a look-up settles."""

    step: Literal["begin", "retake", "resolve", "finish", "forget"]
    key: str
    result: str | None = None
    seen: EffectState | None = None


class _Call(NamedTuple):
    """A call of the caller's own function."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()


Steps: TypeAlias = Generator[Ask | _Call, Any, Any]


def steps_of(
    job_id: str,
    key: str,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    look_up: LookUp | None,
    *,
    not_done: NotDone = (),
) -> Steps:
    """All that `ctx.once` does, in order; ends with the effect's result."""
    state: EffectState = yield Ask("begin", key)
    if state.status == "unknown" and look_up is not None:
        found = yield _Call(look_up)
        if found is None:
            state = yield Ask("retake", key, seen=state)
        else:
            result = _encoded(found, key)
            settled: bool = yield Ask("resolve", key, result, state)
            # Where another was first to settle it, what that one found is asked for.
            state = state._replace(status="done", result=result) if settled else (yield Ask("begin", key))
    if state.status == "done":
        return None if state.result is None else json.loads(state.result)
    if state.status != "begun":
        raise _refusal(job_id, key, state)
    return (yield from _doing(key, function, arguments, not_done))


def _doing(key: str, function: Callable[..., Any], arguments: tuple[Any, ...], not_done: NotDone) -> Steps:
    try:
        value = yield _Call(function, arguments)
    except Exception as error:
        # Only with a proof that nothing happened. An error may come up after the request was sent; and being cut off, which is no Exception, proves nothing either.
        if not leaves_open(error, not_done):
            yield Ask("forget", key)
        raise
    try:
        result = _encoded(value, key)
    except PayloadError:
        yield Ask("finish", key)  # it happened, which is all that can be kept
        raise
    if not (yield Ask("finish", key, result)):
        raise Release(f"the effect {key!r} was done, but a later attempt has taken it over meanwhile")
    return json.loads(result)


def _refusal(job_id: str, key: str, state: EffectState) -> Exception:
    if state.status == "superseded":
        return Release(f"a later attempt of job {job_id!r} has begun, or the job has ended")
    if state.status == "in_progress":
        return EffectInProgress(f"the effect {key!r} is being done by job {state.job_id!r}", key=key)
    return EffectUnknown(
        f"an attempt of job {state.job_id!r} meant to do {key!r} and ended before it said whether it did; give ctx.once a look_up that finds out",
        key=key,
    )


def _encoded(value: Any, key: str) -> str:
    return encode_json(value, f"the result of the effect {key!r}")


# Running the steps ----------------------------------------------------------------------------------------------------------------


async def answered(steps: Steps, ask: Callable[[Ask], Awaitable[Any]]) -> Any:
    """Run the steps on an event loop; functions may be async."""
    step = _first(steps)
    while not isinstance(step, _Ended):
        try:
            if isinstance(step, Ask):
                answer = await ask(step)
            else:
                answer = step.function(*step.arguments)
                if inspect.isawaitable(answer):
                    answer = await answer
        except Exception as error:  # noqa: BLE001 - the steps decide what it means
            step = _after(lambda error=error: steps.throw(error))
        else:
            step = _after(lambda answer=answer: steps.send(answer))
    return step.value


def answered_sync(steps: Steps, ask: Callable[[Ask], Any]) -> Any:
    """Run the steps right here; `ask` blocks, and functions are no async ones."""
    step = _first(steps)
    while not isinstance(step, _Ended):
        try:
            answer = ask(step) if isinstance(step, Ask) else _plain_call(step)
        except Exception as error:  # noqa: BLE001 - as above
            step = _after(lambda error=error: steps.throw(error))
        else:
            step = _after(lambda answer=answer: steps.send(answer))
    return step.value


class _Ended(NamedTuple):
    value: Any


def _first(steps: Steps) -> Ask | _Call | _Ended:
    return _after(lambda: next(steps))


def _after(go_on: Callable[[], Ask | _Call]) -> Ask | _Call | _Ended:
    try:
        return go_on()
    except StopIteration as end:
        return _Ended(end.value)


def _plain_call(call: _Call) -> Any:
    value = call.function(*call.arguments)
    if inspect.isawaitable(value):
        if inspect.iscoroutine(value):
            value.close()
        raise InvalidOption("ctx.once_sync takes plain functions; with an async one write `await ctx.once(…)`")
    return value


# Answering ------------------------------------------------------------------------------------------------------------------------


class EffectLedger:
    """Answers from the ledger, each answer one transaction. `claims` say for which attempt."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def answer(self, claim: EffectClaim, ask: Ask) -> Any:
        """An EffectState for begin and retake, else whether it was written.

        What became of a call is told for as long as it takes: a database that is away must not turn what is known into
        a question. Raises LedgerUnavailable for the other steps, before which nothing has happened.
        """
        if ask.step not in ("finish", "forget"):
            answer = await self._database.write(lambda connection: self._apply(connection, claim, ask))
            if isinstance(answer, EffectState) and answer.status == "done":
                log.info("an effect was done before; its result is given back")
            return answer
        return await waited_out(
            lambda: self._database.write(lambda connection: self._apply(connection, claim, ask)),
            clock=self._clock,
            passes=lambda error: isinstance(error, LedgerUnavailable),
            told=lambda error: log.warning("what became of an effect waits to be recorded: %s", error),
        )

    def _apply(self, connection: Any, claim: EffectClaim, ask: Ask) -> Any:
        now = now_ms(self._clock)
        match ask.step:
            case "begin":
                return begin_effect(connection, claim, now)
            case "finish":
                return finish_effect(connection, claim, now, ask.result)
            case "forget":
                return forget_effect(connection, claim)
            case "retake":
                return retake_effect(connection, claim, _seen(ask), now)
            case "resolve":
                return resolve_effect(connection, claim, _seen(ask), now, ask.result)


def _seen(ask: Ask) -> EffectState:
    if ask.seen is None:
        raise InvalidOption(f"an effect can only be settled as it was seen, and nothing was seen of {ask.key!r}")
    return ask.seen
