"""A context that stands alone: no ledger, no queue, no worker.

For handlers that are called by a test, a script, or a pipeline that is run right here.

What is said to it stays in it and can be read. `once` keeps the promises of the real one in memory: an attempt that
breaks off between intent and result leaves the question open, and the next one meets it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from threading import Lock
from typing import Any, Literal, NamedTuple

from taurine.clock import Clock, SystemClock, ms_of, now_ms
from taurine.errors import InvalidOption
from taurine.jobs.handler.context import Context
from taurine.jobs.handler.effects import Ask, Steps, answered, answered_sync
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.effects import EffectState
from taurine.queue.wire import encode_json

__all__ = ["DetachedContext", "MemoryEffects"]


class DetachedContext(Context):
    """One attempt of a job that nobody keeps a record of; handlers see the same as in a worker.

    job_id, type, queue, tenant, user, trace, deps: as in `Context`. attempt, max_attempts: 1 of 3. scheduled_for,
    deadline: aware datetimes. Default: none.
    created_at: an aware datetime. Default: now. state: what an earlier attempt has left. Default: an empty one.
    effects: what `once` remembers; give the same to several contexts that belong together. Default: nothing yet.
    at: called with the name of each point that the attempt passes: around what `once` does, at each progress, around
    each save. What it raises comes up in the handler.
    redact, clock: as the application's. Default: the usual rules, the machine's time.

    To be read after the handler: `state`, `progress_value`, `told` (each progress, in order), `lines`, `saved_state`,
    `effects`.
    """

    __slots__ = ("_at", "_kept", "effects", "job_cancelled", "told")

    def __init__(
        self,
        *,
        job_id: str = "detached",
        type: str = "detached",  # noqa: A002 - what it is called everywhere
        queue: str = "detached",
        attempt: int = 1,
        max_attempts: int = 3,
        tenant: str | None = None,
        user: str | None = None,
        trace: str | None = None,
        created_at: datetime | None = None,
        scheduled_for: datetime | None = None,
        deadline: datetime | None = None,
        deps: Any = None,
        state: Mapping[str, Any] | None = None,
        effects: MemoryEffects | None = None,
        at: Callable[[str], None] | None = None,
        redact: Redact = Redact.DEFAULT,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.effects = effects or MemoryEffects()
        self.told: list[dict[str, Any]] = []
        self.job_cancelled = False
        """True once `cancel` was called; a handler may be told to stop for other reasons too, such as its time limit."""
        self._at = at
        self._kept: str | None = None if state is None else encode_json(dict(state), "ctx.state")
        super().__init__(
            job_id=job_id,
            type=type,
            queue=queue,
            attempt=attempt,
            max_attempts=max_attempts,
            tenant=tenant,
            created_at_ms=now_ms(clock) if created_at is None else ms_of(created_at),
            scheduled_for_ms=ms_of(scheduled_for),
            deadline_ms=ms_of(deadline),
            user=user,
            trace=trace,
            deps=deps,
            fence=self.effects.next_fence(job_id),
            state=self._kept,
            progress=None,
            backing=_MemoryBacking(),
            signal=_NoSignal(),
            redact=redact,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"DetachedContext({self.job_id!r}, attempt={self.attempt})"

    # For the test -----------------------------------------------------------------------------------------------------------------

    def cancel(self, reason: str = "cancelled") -> None:
        """Tell the handler that its job was cancelled: `cancelled` is true from now on. May be called from any thread.

        The first reason stays.
        """
        self.job_cancelled = True
        self.request_cancel(reason)

    @property
    def saved_state(self) -> dict[str, Any]:
        """The state as it was saved last: what the next attempt would be given if this one's process died now."""
        return {} if self._kept is None else json.loads(self._kept)

    # What handlers do -------------------------------------------------------------------------------------------------------------

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """See `Context.progress`."""
        awaitable = super().progress(done, total, message)
        value = self.progress_value
        if value is not None:
            self.told.append(value)
        self.passes(f"progress {done:g}" if total is None else f"progress {done:g} of {total:g}")
        return awaitable

    def keep(self) -> None:
        """Save state and progress, as a worker does a few times a second.

        Raises InvalidOption for a state that cannot be saved.
        """
        state = self.changed_state()
        if state is not None:
            self._kept = state
            self.state_saved(state)
        self.progress_saved(self.progress_value)

    def passes(self, point: str) -> None:
        """Say that the attempt has come to a point where it might break off."""
        if self._at is not None:
            self._at(point)


class MemoryEffects:
    """What `once` has done, in memory: the rules of the ledger for one process. May be used from any thread.

    An intent that another job's attempt holds is in progress until that attempt has ended; then nobody knows what
    became of it.
    """

    def __init__(self) -> None:
        self._effects: dict[tuple[str, str], _Effect] = {}
        self._fences: dict[str, int] = {}
        self._lock = Lock()

    @property
    def results(self) -> dict[str, Any]:
        """The results of what was done, by key; of all tenants."""
        return {key: _value(effect.result) for (_, key), effect in self._effects.items() if effect.status == "done"}

    @property
    def unknown(self) -> list[str]:
        """The keys whose intent is there and whose result is not."""
        return [key for (_, key), effect in self._effects.items() if effect.status == "intent"]

    def next_fence(self, job_id: str) -> int:
        """The number of the job's next attempt: from now on earlier ones are refused."""
        with self._lock:
            fence = self._fences[job_id] = self._fences.get(job_id, 0) + 1
            return fence

    def answer(self, context: Context, ask: Ask) -> Any:
        """As `EffectLedger.answer`: an EffectState for begin and retake, else whether it was written."""
        with self._lock:
            place = (context.tenant or "", ask.key)
            effect = self._effects.get(place)
            match ask.step:
                case "begin":
                    return self._begin(place, effect, context)
                case "retake":
                    if effect is not None and effect.is_as(ask.seen) and not self._is_over(context):
                        del self._effects[place]
                        effect = None
                    return self._begin(place, effect, context)
                case "resolve":
                    return self._settle(place, effect, ask, mine=effect is not None and effect.is_as(ask.seen))
                case "finish":
                    return self._settle(place, effect, ask, mine=effect is not None and effect.context is context)
                case "forget":
                    if effect is None or effect.context is not context or effect.status != "intent":
                        return False
                    del self._effects[place]
                    return True

    def _begin(self, place: tuple[str, str], effect: _Effect | None, context: Context) -> EffectState:
        if self._is_over(context):
            return EffectState("superseded", None, context.job_id, context.fence)
        if effect is None:
            self._effects[place] = _Effect("intent", None, context)
            return EffectState("begun", None, context.job_id, context.fence)
        holder = effect.context
        if effect.status == "done":
            return EffectState("done", effect.result, holder.job_id, holder.fence)
        over = holder.fence < context.fence if holder.job_id == context.job_id else holder.ended
        return EffectState("unknown" if over else "in_progress", None, holder.job_id, holder.fence)

    def _settle(self, place: tuple[str, str], effect: _Effect | None, ask: Ask, *, mine: bool) -> bool:
        if effect is None or not mine:
            return False
        self._effects[place] = effect._replace(status="done", result=ask.result)
        return True

    def _is_over(self, context: Context) -> bool:
        return context.fence < self._fences.get(context.job_id, 0)


class _Effect(NamedTuple):
    """result: JSON text. context: of the attempt that holds it."""

    status: Literal["intent", "done"]
    result: str | None
    context: Context

    def is_as(self, seen: EffectState | None) -> bool:
        """True if it still is the intent that was seen."""
        holder = self.context
        return (
            seen is not None and self.status == "intent" and (holder.job_id, holder.fence) == (seen.job_id, seen.fence)
        )


class _NoSignal:
    """Nobody says from outside that the attempt is to stop; `DetachedContext.cancel` does."""

    cancel_reason: str | None = None


class _MemoryBacking:
    """Keeps in the context itself what a worker writes into the ledger."""

    async def save(self, context: Context) -> None:
        _save(context)

    def save_sync(self, context: Context) -> None:
        _refuse_loop()
        _save(context)

    async def take(self, context: Context, steps: Steps) -> Any:
        async def ask(question: Ask) -> Any:
            return _ask(context, question)

        return await answered(steps, ask)

    def take_sync(self, context: Context, steps: Steps) -> Any:
        _refuse_loop()
        return answered_sync(steps, lambda question: _ask(context, question))

    async def answer(self, context: Context, name: str, body: Any) -> Any:
        raise InvalidOption(f"a detached context stands in no worker, which could be asked for {name!r}")


def _save(context: Context) -> None:
    detached = _detached(context)
    detached.passes("before a save")
    detached.keep()
    detached.passes("after a save")


_POINTS = {
    "begin": ("before once {!r}", "in once {!r}, before its call"),
    "retake": ("in once {!r}, before it is taken anew", "in once {!r}, before its call"),
    "finish": ("in once {!r}, after its call", "after once {!r}"),
    "resolve": ("in once {!r}, when it was looked up", "after once {!r}"),
    "forget": ("in once {!r}, after its call", "after once {!r}, which was not done"),
}
"""What the points are called before and after each step."""


def _ask(context: Context, question: Ask) -> Any:
    detached = _detached(context)
    before, after = _POINTS[question.step]
    detached.passes(before.format(question.key))
    answer = detached.effects.answer(context, question)
    if not isinstance(answer, EffectState) or answer.status == "begun":
        detached.passes(after.format(question.key))
    return answer


def _detached(context: Context) -> DetachedContext:
    assert isinstance(context, DetachedContext), "this backing is made by a detached context"
    return context


def _refuse_loop() -> None:
    """As in a worker, so that a test finds what would fail there."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise InvalidOption("this call would block the event loop; use the one without _sync, with await")


def _value(result: str | None) -> Any:
    return None if result is None else json.loads(result)
