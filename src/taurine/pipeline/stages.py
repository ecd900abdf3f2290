"""A stage: a function of a value, its name, and its share of the pipeline's progress."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast, overload

from taurine.errors import CatalogError, InvalidOption

if TYPE_CHECKING:
    from taurine.jobs.handler.context import Context

__all__ = ["AnyStage", "Stage", "StageOf"]

InT_contra = TypeVar("InT_contra", contravariant=True)
OutT_co = TypeVar("OutT_co", covariant=True)
InT = TypeVar("InT")
OutT = TypeVar("OutT")


class Stage(Generic[InT_contra, OutT_co]):
    """A stage with a name of its own, or with another weight.

    function: takes the value and, if it likes, the Context; async, or plain and then run in a thread.
    weight: its part of the pipeline's progress, beside those of the others; above 0. Default: 1.

    Raises InvalidOption.
    """

    __slots__ = ("function", "name", "weight")

    @overload
    def __init__(
        self: Stage[InT, OutT], name: str, function: Callable[[InT, Context], Awaitable[OutT]], *, weight: float = 1.0
    ) -> None: ...
    @overload
    def __init__(
        self: Stage[InT, OutT], name: str, function: Callable[[InT], Awaitable[OutT]], *, weight: float = 1.0
    ) -> None: ...
    @overload
    def __init__(
        self: Stage[InT, OutT], name: str, function: Callable[[InT, Context], OutT], *, weight: float = 1.0
    ) -> None: ...
    @overload
    def __init__(
        self: Stage[InT, OutT], name: str, function: Callable[[InT], OutT], *, weight: float = 1.0
    ) -> None: ...
    def __init__(self, name: str, function: Callable[..., Any], *, weight: float = 1.0) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected a stage's name to be printable text, got {name!r:.80}")
        if not 0 < weight < math.inf:
            raise InvalidOption(f"expected the weight of stage {name!r} to be above 0, got {weight!r:.40}")
        self.name = name
        self.function = function
        self.weight = float(weight)

    def __repr__(self) -> str:
        return f"Stage({self.name!r})"

    @classmethod
    def of(cls, given: AnyStage) -> Stage[Any, Any]:
        """A stage as it is, or that of a function, named like it. Raises CatalogError for what has no name."""
        if isinstance(given, Stage):
            return cast(Stage[Any, Any], given)
        named: Any = given
        while isinstance(named, partial):
            named = named.func
        name = getattr(named, "__name__", "<lambda>" if callable(named) else "")
        if name == "<lambda>":
            raise CatalogError(f"expected the stage {given!r:.80} to have a name; write Stage('…', …)")
        if not name:
            raise CatalogError(f"expected a stage to be a function of a value, got {given!r:.80}")
        return Stage(name, given)


StageOf: TypeAlias = (
    Callable[[InT, "Context"], Awaitable[OutT] | OutT] | Callable[[InT], Awaitable[OutT] | OutT] | Stage[InT, OutT]
)
"""What takes one type and returns another: a function, with the context or without, async or not, or a Stage of one."""

AnyStage: TypeAlias = Callable[..., Any] | Stage[Any, Any]
