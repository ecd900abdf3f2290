"""Who is told of a pipeline's stages, and what.

This is where an application hooks in what it measures: each event has the job's id and its trace context, and the stage
that has started is always told of once more, as completed or as failed.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

__all__ = ["Moment", "StageEvent", "StageFailure", "StageObserver", "StageProgress"]

Moment: TypeAlias = Literal["stage_started", "stage_progressed", "stage_completed", "stage_failed"]
"""The methods of an observer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageEvent:
    """One moment of one stage, in one run of its pipeline.

    index: the stage's place, from 0; count: stages in all. job_id, attempt, trace: of the job that runs; "detached" and
    1 where none does.
    seconds: since the stage's start, by the monotonic clock. progress: how far the whole pipeline is, 0 to 1; it never
    goes back.
    """

    pipeline: str
    stage: str
    index: int
    count: int
    job_id: str
    attempt: int
    trace: str | None
    seconds: float
    progress: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress(StageEvent):
    """What a stage has told with `ctx.progress`. share: of this stage, 0 to 1. message: its words, or None."""

    share: float
    message: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageFailure(StageEvent):
    """A stage that ended without a result.

    error: what it raised; CancelledError where it was cut off, a HandlerSignal where it chose the outcome of its
    attempt.
    """

    error: BaseException


class StageObserver(Protocol):
    """Hears of the stages of a pipeline. Derive from it and write the methods that you need, or have all four.

    Each may be async, and is on the event loop then; a plain one is called in a thread, so that it may block. The
    pipeline waits for them, observer by observer in their order, at most its `patience` for each call. One that raises
    is logged, once for each stage of a run; one that takes longer is logged and told nothing more of that run. Neither
    does anything to the pipeline.
    """

    def stage_started(self, event: StageEvent, /) -> Awaitable[None] | None:
        """A stage is about to be called."""

    def stage_progressed(self, event: StageProgress, /) -> Awaitable[None] | None:
        """The stage has told how far it is.

        It does not wait meanwhile; of what it tells faster than observers hear, only the latest is told.
        """

    def stage_completed(self, event: StageEvent, /) -> Awaitable[None] | None:
        """The stage has returned its result; the next one has not begun."""

    def stage_failed(self, event: StageFailure, /) -> Awaitable[None] | None:
        """The stage has raised, or was cut off."""
