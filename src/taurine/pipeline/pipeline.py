"""Pipelines: stages in their order, checked to fit each other when they are put together."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_args, get_origin, overload

from taurine.errors import CatalogError, InvalidOption
from taurine.jobs.catalog.signatures import annotations_of
from taurine.jobs.executors.choosing import is_async
from taurine.jobs.handler.detached import DetachedContext
from taurine.options import Seconds, to_seconds
from taurine.pipeline.fitting import fits, names_of
from taurine.pipeline.observers import StageObserver
from taurine.pipeline.running import Run, Step
from taurine.pipeline.stages import AnyStage, InT_contra, OutT_co, Stage, StageOf
from taurine.pipeline.telling import check_observers

if TYPE_CHECKING:
    from taurine.jobs.handler.context import Context

__all__ = ["Pipeline"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")
G = TypeVar("G")
H = TypeVar("H")
I = TypeVar("I")  # noqa: E741 - the ninth of them


class Pipeline(Generic[InT_contra, OutT_co]):
    """Stages that each take what the one before them returned: `Pipeline("ticket-triage", [load, classify, route])`.

    stages: functions of a value and, if they like, the Context; async ones run on the event loop, plain ones in a
    thread. They are named like their functions, or by a `Stage`, which may also weigh more than others in the
    pipeline's progress. Default weight: 1 each.
    observers: told of every run; see `StageObserver`. patience: seconds that one of them may take for one event.
    Default: 1.

    What a stage returns must be what the next one takes, as their annotations say. That is checked here, at import; and
    by type checkers, if the stages are a tuple:
    in a list all members are of one type, so what it takes and returns has to be said, `triage: Pipeline[Ticket,
    Triage] = Pipeline("…", [load, classify])`.

    `Taurine.pipeline` makes a job type of it. Raises CatalogError for stages that do not fit or are no stages, and
    InvalidOption.
    """

    @overload
    def __init__(
        self: Pipeline[Any, Any],
        name: str,
        stages: list[StageOf[Any, Any]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, B],
        name: str,
        stages: tuple[StageOf[A, B]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, C],
        name: str,
        stages: tuple[StageOf[A, B], StageOf[B, C]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, D],
        name: str,
        stages: tuple[StageOf[A, B], StageOf[B, C], StageOf[C, D]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, E],
        name: str,
        stages: tuple[StageOf[A, B], StageOf[B, C], StageOf[C, D], StageOf[D, E]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, F],
        name: str,
        stages: tuple[StageOf[A, B], StageOf[B, C], StageOf[C, D], StageOf[D, E], StageOf[E, F]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, G],
        name: str,
        stages: tuple[StageOf[A, B], StageOf[B, C], StageOf[C, D], StageOf[D, E], StageOf[E, F], StageOf[F, G]],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, H],
        name: str,
        stages: tuple[
            StageOf[A, B], StageOf[B, C], StageOf[C, D], StageOf[D, E], StageOf[E, F], StageOf[F, G], StageOf[G, H]
        ],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, I],
        name: str,
        stages: tuple[
            StageOf[A, B],
            StageOf[B, C],
            StageOf[C, D],
            StageOf[D, E],
            StageOf[E, F],
            StageOf[F, G],
            StageOf[G, H],
            StageOf[H, I],
        ],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    @overload
    def __init__(
        self: Pipeline[A, Any],
        name: str,
        stages: tuple[
            StageOf[A, B],
            StageOf[B, C],
            StageOf[C, D],
            StageOf[D, E],
            StageOf[E, F],
            StageOf[F, G],
            StageOf[G, H],
            StageOf[H, I],
            StageOf[I, Any],
            *tuple[StageOf[Any, Any], ...],
        ],
        *,
        observers: Sequence[StageObserver] = (),
        patience: Seconds = 1.0,
    ) -> None: ...
    def __init__(
        self, name: str, stages: Sequence[AnyStage], *, observers: Sequence[StageObserver] = (), patience: Seconds = 1.0
    ) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected a pipeline's name to be printable text, got {name!r:.80}")
        self.name = name
        self.stages = tuple(Stage.of(stage) for stage in stages)
        self.observers = tuple(observers)
        self._patience = to_seconds(patience, "patience", minimum=0.001)
        check_observers(self.observers)
        local_names = sys._getframe(1).f_locals  # pyright: ignore[reportPrivateUsage] - for models that are declared in a function
        self.takes, self.returns = _ends_of(name, self.stages, local_names)
        self._steps = _steps_of(self.stages)

    def __repr__(self) -> str:
        return f"Pipeline({self.name!r}, {[stage.name for stage in self.stages]})"

    async def run(
        self, value: InT_contra, ctx: Context | None = None, *, observers: Sequence[StageObserver] = ()
    ) -> OutT_co:
        """Run the stages right here, in order; returns the last one's result.

        ctx: what the stages are given, f.e. that of the handler which calls this. Default: one that stands alone, with
        no store behind it.
        observers: told of this run, after those of the pipeline.

        Each stage moves the context's progress over its own stretch, and its own `ctx.progress` is a share of that.
        What a stage raises comes up as it is, with a note that names the stage. Between two stages Cancel is raised
        when the job is to stop.
        """
        check_observers(observers)
        context = DetachedContext(type=self.name) if ctx is None else ctx
        everybody = (*self.observers, *observers)
        run = Run(self.name, self._steps, context=context, observers=everybody, patience=self._patience)
        return await run.through(value)


def _ends_of(name: str, stages: Sequence[Stage[Any, Any]], local_names: Mapping[str, Any]) -> tuple[Any, Any]:
    """What the first stage takes and the last one returns.

    Raises CatalogError unless each takes what the one before it returns.
    """
    if not stages:
        raise CatalogError(f"pipeline {name!r}: expected at least one stage")
    names = [stage.name for stage in stages]
    for twice in names:
        if names.count(twice) > 1:
            raise CatalogError(
                f"pipeline {name!r}: two stages are called {twice!r}; name one of them with Stage('…', …)"
            )
    types = [_types_of(stage, f"pipeline {name!r}, stage {stage.name!r}", local_names) for stage in stages]
    for (before, (_, returned)), (stage, (taken, _)) in pairwise(zip(stages, types, strict=True)):
        if not fits(returned, taken):
            returned_name, taken_name = names_of(returned, taken)
            raise CatalogError(
                f"pipeline {name!r}: stage {stage.name!r} takes {taken_name}, but {before.name!r} before it returns {returned_name}"
            )
    return types[0][0], types[-1][1]


def _types_of(stage: Stage[Any, Any], label: str, local_names: Mapping[str, Any]) -> tuple[Any, Any]:
    taken, returned = annotations_of(stage.function, label, local_names)
    if (
        not is_async(stage.function)
        and inspect.isclass(origin := get_origin(returned))
        and issubclass(origin, Awaitable)
    ):
        returned = get_args(returned)[-1]  # a plain function that returns a coroutine
    return taken, returned


def _steps_of(stages: Sequence[Stage[Any, Any]]) -> tuple[Step, ...]:
    """Each stage with its stretch of the progress: they follow each other without a gap from 0 to 1."""
    heaviest = max(stage.weight for stage in stages)  # so that no sum is infinite
    sums = list(accumulate((stage.weight / heaviest for stage in stages), initial=0.0))
    bounds = [part / sums[-1] for part in sums]
    return tuple(Step(index, stage, *bounds[index : index + 2]) for index, stage in enumerate(stages))
