"""Handlers that take the context alone, or nothing: what their jobs carry all the same, and the form in which executors
call them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

from pydantic import BaseModel, ConfigDict

from taurine.jobs.executors.choosing import is_async

__all__ = ["NoPayload", "given_context_alone", "takes_nothing"]


class NoPayload(BaseModel):
    """The payload of jobs whose handler takes none; `{}` as JSON. What others put into it is passed over."""

    model_config = ConfigDict(frozen=True, extra="ignore")


_SIGNATURE = inspect.Signature(
    [
        inspect.Parameter("payload", inspect.Parameter.POSITIONAL_ONLY, annotation=NoPayload),
        inspect.Parameter("context", inspect.Parameter.POSITIONAL_ONLY),
    ]
)


def takes_nothing(function: Callable[..., Any]) -> bool:
    """True for a function that can be given neither a payload nor a Context."""
    parameters = inspect.signature(function).parameters.values()
    return all(one.kind in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in parameters)


def given_context_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A handler of a payload and a context, as every other one is, that calls `function` with the context, or with
    nothing if it takes nothing.
    """
    most = 0 if takes_nothing(function) else 1

    @wraps(function)
    async def call_async(payload: NoPayload, context: Any) -> Any:
        return await function(*(context,)[:most])

    @wraps(function)
    def call(payload: NoPayload, context: Any) -> Any:
        return function(*(context,)[:most])

    called: Any = call_async if is_async(function) else call
    called.__signature__ = _SIGNATURE  # or `inspect` would look at the function inside
    return called
