"""Which executor a handler gets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

from taurine.errors import InvalidOption, did_you_mean

__all__ = ["ExecutorKind", "check_kind", "executor_for", "is_async"]

ExecutorKind: TypeAlias = Literal["loop", "thread", "process"]
"""Where a handler runs: on the worker's event loop, in a thread, or in a process that can be killed."""

_KINDS: tuple[str, ...] = get_args(ExecutorKind)


def check_kind(declared: str | None) -> None:
    """Raise InvalidOption, with the near miss, for what is no executor. None is the default one."""
    if declared is not None and declared not in _KINDS:
        raise InvalidOption(
            f"expected runs_in to be one of {', '.join(_KINDS)}, got {declared!r:.40}{did_you_mean(str(declared), _KINDS)}"
        )


def executor_for(handler: Callable[..., Any], declared: ExecutorKind | None = None) -> ExecutorKind:
    """Where `handler` runs. Default: on the loop when it is async, in a thread when it is not.

    Raises InvalidOption for what is no executor, for a plain function on the loop, which it would block, and for an
    async one in a thread, which has no loop.
    """
    check_kind(declared)
    asynchronous = is_async(handler)
    if declared == "loop" and not asynchronous:
        raise InvalidOption(
            f"{_name(handler)} is a plain function and would block the event loop; use runs_in='thread' or 'process'"
        )
    if declared == "thread" and asynchronous:
        raise InvalidOption(
            f"{_name(handler)} is async and a thread has no event loop; use runs_in='loop' or 'process'"
        )
    return declared or ("loop" if asynchronous else "thread")


def is_async(handler: Callable[..., Any]) -> bool:
    """True when calling `handler` gives a coroutine; looks through functools.partial and at objects with `__call__`."""
    while isinstance(handler, partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004 - the method itself is asked


def _name(handler: Callable[..., Any]) -> str:
    return getattr(handler, "__qualname__", None) or repr(handler)
