"""One run of a pipeline: value in, stage after stage, result out; and what is told of it on the way.

What a stage does is told three times: to the job, whose progress and record show it; to the job's log; and to the
observers. A run without a job has a context that stands alone, and is the same in everything else.
"""

from __future__ import annotations

import inspect
from asyncio import CancelledError
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from taurine.errors import Cancel, HandlerSignal, Permanent, RetryAfter
from taurine.jobs.executors import Call
from taurine.jobs.executors.call import run_here
from taurine.jobs.executors.choosing import is_async
from taurine.jobs.executors.thread import ThreadExecutor
from taurine.jobs.handler.context import Context
from taurine.jobs.handler.part import Part
from taurine.pipeline.observers import StageEvent, StageFailure, StageObserver, StageProgress
from taurine.pipeline.passing_on import PassingOn
from taurine.pipeline.stages import Stage
from taurine.pipeline.telling import Telling
from taurine.queue.attempt import describe

__all__ = ["Run", "Step"]

_GRACE = 0.5
"""Seconds that a plain function has to end when it is told to: half of what the engine gives a cancelled handler."""

_CUT_OFF_PATIENCE = 0.1
"""Seconds that an observer has when its job is cut off, for the same reason."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stage in its place. start, end: its stretch of the pipeline's progress, 0 to 1."""

    index: int
    stage: Stage[Any, Any]
    start: float
    end: float


class Run:
    """Made on the event loop, for one call of `through`. patience: seconds that an observer may take for one event."""

    def __init__(
        self, name: str, steps: Sequence[Step], *, context: Context, observers: Sequence[StageObserver], patience: float
    ) -> None:
        self._name = name
        self._steps = steps
        self._context = context
        self._threads = ThreadExecutor(grace=_GRACE)
        self._telling = Telling(observers, context=context, threads=self._threads, patience=patience)
        self._durations: dict[str, float] = {}
        self._progress = 0.0
        self._started = 0.0
        self._ended: float | None = None
        """When the present stage was called and when it ended, by the monotonic clock: without the time that observers
        take.
        """

    async def through(self, value: Any) -> Any:
        """The result of the last stage. Raises what a stage raises, and Cancel between two when the job is to stop."""
        try:
            for step in self._steps:
                # Here, between two stages, is the place of a checkpoint: `step.index` and `value`, as JSON of the type that the stage declares, under a
                # key of `ctx.state`, committed by `ctx.save`. A later attempt finds it there, and begins with that step and that value.
                self._context.raise_if_cancelled()
                value = await self._take(step, value)
            return value
        finally:
            await self._threads.stop()

    async def _take(self, step: Step, value: Any) -> Any:
        context, name = self._context, step.stage.name
        part = Part(name=name, start=step.start, end=step.end, shown=self._shown(step))
        with context.within(part):
            context.progress(0, message=name)
            self._started = self._ended = context.clock.monotonic()
            try:
                await self._telling.tell("stage_started", StageEvent(**self._event(step)))
                value = await self._call(step, value, part)
            except (Exception, CancelledError) as error:
                await self._failed(step, error)
                raise
            seconds = self._durations[name] = self._seconds
            self._progress = step.end
            part.shown = self._shown(step)
            context.progress(1)
            context.log.info(
                f"stage {name!r} completed in {seconds:.3f} s", index=step.index, seconds=round(seconds, 6)
            )
            await self._telling.tell("stage_completed", StageEvent(**self._event(step)))
        return value

    # Calling ------------------------------------------------------------------------------------------------------------------------

    async def _call(self, step: Step, value: Any, part: Part) -> Any:
        if not self._telling.hears("stage_progressed"):
            return await self._result(step.stage, value)
        async with PassingOn(lambda event: self._telling.tell("stage_progressed", event)) as passing_on:

            def told(share: float, message: str | None) -> None:
                self._progress = max(self._progress, part.at(share))
                passing_on.note(StageProgress(**self._event(step), share=share, message=message))

            part.told = told
            try:
                return await self._result(step.stage, value)
            finally:
                part.told = None

    async def _result(self, stage: Stage[Any, Any], value: Any) -> Any:
        self._started, self._ended = self._context.clock.monotonic(), None
        call = Call(
            handler=stage.function, payload=value, context=self._context, name=f"stage {stage.name!r} of {self._name!r}"
        )
        try:
            if is_async(stage.function):
                return await run_here(call.invoke)
            result = await self._threads.run(call, timeout=None)
            return await result if inspect.isawaitable(result) else result
        finally:
            self._ended = self._context.clock.monotonic()

    # Telling ------------------------------------------------------------------------------------------------------------------------

    async def _failed(self, step: Step, error: BaseException) -> None:
        seconds, log, name = self._seconds, self._context.log, step.stage.name
        cut_off = isinstance(error, CancelledError | Cancel)
        if cut_off:
            log.info(f"stage {name!r} was cut off after {seconds:.3f} s", index=step.index, seconds=round(seconds, 6))
        elif isinstance(error, HandlerSignal) and not isinstance(error, Permanent | RetryAfter):
            kind = type(error).__name__
            log.info(f"stage {name!r} raised {kind} after {seconds:.3f} s", index=step.index, seconds=round(seconds, 6))
        else:
            _add_note(error, f"in stage {name!r} ({step.index + 1} of {len(self._steps)}) of pipeline {self._name!r}")
            what = f"{type(error).__name__}: {describe(error)}"
            log.warning(
                f"stage {name!r} failed after {seconds:.3f} s: {what}", index=step.index, seconds=round(seconds, 6)
            )
        event = StageFailure(**self._event(step), error=error)
        await self._telling.tell("stage_failed", event, patience=_CUT_OFF_PATIENCE if cut_off else None)

    @property
    def _seconds(self) -> float:
        now = self._context.clock.monotonic() if self._ended is None else self._ended
        return now - self._started

    def _shown(self, step: Step) -> dict[str, Any]:
        """What the job's progress has beside its own members.

        durations: seconds of each stage that this attempt has completed.
        """
        durations = {name: round(seconds, 6) for name, seconds in self._durations.items()}
        return {"stage": step.stage.name, "index": step.index, "count": len(self._steps), "durations": durations}

    def _event(self, step: Step) -> dict[str, Any]:
        """The members that every event has."""
        context = self._context
        return {
            "pipeline": self._name,
            "stage": step.stage.name,
            "index": step.index,
            "count": len(self._steps),
            "job_id": context.job_id,
            "attempt": context.attempt,
            "trace": context.trace,
            "seconds": self._seconds,
            "progress": self._progress,
        }


def _add_note(error: BaseException, note: str) -> None:
    """Name the stage in the error's traceback, and leave its type and text as they are: they decide what becomes of the
    attempt.
    """
    if note not in getattr(error, "__notes__", ()):
        error.add_note(note)
