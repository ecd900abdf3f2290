"""What a handler's signature says: whether it can be one, and what its payload and its result are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from taurine.errors import CatalogError
from taurine.jobs.catalog.without_payload import NoPayload, takes_nothing
from taurine.jobs.handler.context import Context

__all__ = ["annotations_of", "check_handler", "check_same_payload", "name_of", "takes_payload"]


def name_of(function: Callable[..., Any]) -> str:
    """What messages call a handler."""
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def check_handler(function: Callable[..., Any], job_type: str, local_names: Mapping[str, Any] | None = None) -> None:
    """Raise CatalogError for what cannot be a handler: a function of a payload and, if it likes, a Context; or of a
    Context alone; or of nothing.

    local_names: what is known where the function is defined, beside its module's own names.
    """
    if not callable(function) or inspect.isclass(function):
        raise CatalogError(f"{job_type}: expected the handler to be a function of a payload, got {function!r:.80}")
    name = name_of(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise CatalogError(
            f"{job_type}: the handler {name} is a generator; return a result, and tell progress with ctx.progress"
        )
    parameters = list(inspect.signature(function).parameters.values())
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    needed = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if any(one.kind is one.KEYWORD_ONLY for one in needed):
        names = ", ".join(repr(one.name) for one in needed if one.kind is one.KEYWORD_ONLY)
        raise CatalogError(
            f"{job_type}: the handler {name} needs the keyword {names}, which nobody gives it: it is to take a payload and, if it likes, a Context; "
            "give the keyword a default, or put it into the payload"
        )
    if not takes_payload(function, local_names):
        return
    if not positional or len(needed) > 2:
        raise CatalogError(
            f"{job_type}: expected the handler {name} to take a payload and, if it likes, a Context; it takes "
            f"({', '.join(one.name for one in needed)})"
        )
    if len(positional) > 1:
        _check_second(positional[1], function, job_type, local_names)


def takes_payload(function: Callable[..., Any], local_names: Mapping[str, Any] | None = None) -> bool:
    """False for a function of a Context alone, and for one of nothing."""
    if takes_nothing(function):
        return False
    parameters = list(inspect.signature(function).parameters.values())
    positional = [one for one in parameters if one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD)]
    if len(positional) != 1:
        return True
    written = positional[0].annotation
    try:
        annotation = _resolved(written, function, local_names)
    except _Unreadable:  # it says what it is by itself
        return written.rpartition(".")[2] != Context.__name__
    return not (isinstance(annotation, type) and issubclass(annotation, Context))


def _check_second(
    parameter: inspect.Parameter, function: Callable[..., Any], job_type: str, local_names: Mapping[str, Any] | None
) -> None:
    """Raise CatalogError for a second parameter that says it is something else than the Context, which it is given."""
    name = name_of(function)
    if parameter.default not in (parameter.empty, None):
        raise CatalogError(
            f"{job_type}: the second parameter of the handler {name} is given the Context, and {parameter.name!r} has a default of its own; "
            "make it keyword-only"
        )
    try:
        annotation = _resolved(parameter.annotation, function, local_names)
    except _Unreadable:  # left to type checkers
        return
    if not _may_be_context(annotation):
        raise CatalogError(
            f"{job_type}: the second parameter of the handler {name} is given the Context, and {parameter.name!r} is said to be "
            f"{getattr(annotation, '__name__', annotation)}; a handler takes one payload: put both into a model, or make {parameter.name!r} keyword-only with a default"
        )


def _may_be_context(annotation: Any) -> bool:
    """False for an annotation that cannot mean the Context. What nothing is known of may."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _may_be_context(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return any(_may_be_context(one) for one in get_args(annotation) if one is not type(None))
    if origin is not None:
        annotation = origin
    if annotation in (inspect.Parameter.empty, Any) or isinstance(annotation, str | TypeVar):
        return True
    if not isinstance(annotation, type):
        return False
    is_protocol = getattr(annotation, "_is_protocol", False)  # by its members, which only a type checker compares
    return is_protocol or issubclass(Context, annotation) or issubclass(annotation, Context)


def annotations_of(
    function: Callable[..., Any], job_type: str, local_names: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """The payload's and the result's type, as the function declares them.

    Raises CatalogError for a payload without one.

    local_names: what is known where the function is defined, beside its module's own names. A result that is not
    declared may be anything.
    """
    check_handler(function, job_type, local_names)
    signature = inspect.signature(function)
    result = Any if signature.return_annotation is signature.empty else signature.return_annotation
    result = _required(result, function, job_type, local_names)
    if not takes_payload(function, local_names):
        return NoPayload, result
    payload = next(iter(signature.parameters.values()))
    if payload.annotation is payload.empty:
        raise CatalogError(
            f"{job_type}: expected the handler {name_of(function)} to say what type its payload {payload.name!r} is"
        )
    return _required(payload.annotation, function, job_type, local_names), result


def check_same_payload(function: Callable[..., Any], job_type: str, declared: Any) -> None:
    """Raise CatalogError for a handler that says it takes a class of payload which the declared one is not.

    What cannot be read here, because its name is only known to type checkers, is left to them.
    """
    check_handler(function, job_type)
    if not takes_payload(function):
        if declared is NoPayload:
            return
        raise CatalogError(
            f"{job_type}: the handler {name_of(function)} takes no payload, and the payload is declared as {getattr(declared, '__qualname__', declared)}"
        )
    try:
        taken = _resolved(next(iter(inspect.signature(function).parameters.values())).annotation, function)
    except _Unreadable:
        return
    # On Python 3.11 `Any` is a class too, and any payload is one of it.
    says_nothing = taken is inspect.Parameter.empty or taken is Any
    plain_classes = isinstance(taken, type) and isinstance(declared, type) and not says_nothing
    if plain_classes and declared is not taken and taken not in declared.__mro__:
        raise CatalogError(
            f"{job_type}: the handler {name_of(function)} takes {taken.__qualname__}, and the payload is declared as {declared.__qualname__}"
        )


class _Unreadable(Exception):
    """An annotation is the text of a name that is not known at run time: only type checkers import it."""


def _resolved(annotation: Any, function: Callable[..., Any], local_names: Mapping[str, Any] | None = None) -> Any:
    """An annotation as a type: under `from __future__ import annotations` it is the text of one, of the program itself.

    Raises _Unreadable.
    """
    if not isinstance(annotation, str):
        return annotation
    names = {**_module_names(function), **(local_names or {})}
    try:
        return eval(annotation, names)  # noqa: S307 - the program's own source, as typing.get_type_hints evaluates it
    except Exception as error:
        raise _Unreadable(str(error)) from error


def _required(
    annotation: Any, function: Callable[..., Any], job_type: str, local_names: Mapping[str, Any] | None
) -> Any:
    """As `_resolved`, for what must be known. Raises CatalogError."""
    try:
        return _resolved(annotation, function, local_names)
    except _Unreadable as error:
        raise CatalogError(
            f"{job_type}: the annotation {annotation!r} of {name_of(function)} cannot be read ({error}); the types of payloads and results must "
            "be imported at run time, not under TYPE_CHECKING"
        ) from error


def _module_names(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The names of the module that a handler is defined in; it may be an object with `__call__`, or a partial."""
    while isinstance(function, partial):
        function = function.func
    # An object with `__call__` has no names of its own; its class's method does.
    written = function if inspect.isroutine(function) else type(function).__call__
    return getattr(inspect.unwrap(written), "__globals__", {})
