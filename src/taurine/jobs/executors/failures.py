"""An error on its way from a handler's process to the worker, as JSON: never pickled, since the worker does not trust
that process.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import asdict

from taurine.errors import (
    Cancel,
    HandlerExited,
    HandlerFailed,
    PayloadError,
    PayloadTooLarge,
    Permanent,
    RateLimited,
    Release,
    RetryAfter,
    Snooze,
    WaitForChildren,
)
from taurine.jobs.executors.frames import Message
from taurine.retry import Verdict

__all__ = ["describe_failure", "restore_failure"]

_PLAIN = {
    kind.__name__: kind
    for kind in (Permanent, Release, WaitForChildren, Cancel, HandlerExited, PayloadError, PayloadTooLarge)
}
_DELAYED = {kind.__name__: kind for kind in (RetryAfter, Snooze, RateLimited)}
_KNOWN = {*_PLAIN.values(), *_DELAYED.values()}

_LONGEST_TEXT = 64 * 1024
"""Characters of a message or of a traceback; the end of a traceback is the part that tells."""


def describe_failure(error: BaseException, classify: Callable[[BaseException], Verdict]) -> Message:
    """What the worker needs to know of `error`. Never raises."""
    kind = type(error)
    return {
        "type_name": kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}",
        "message": _text_of(error)[:_LONGEST_TEXT],
        "traceback": _traceback_of(error)[-_LONGEST_TEXT:],
        "known": next((base.__name__ for base in kind.__mro__ if base in _KNOWN), None),
        "delay": getattr(error, "delay", None),
        "verdict": error.verdict if isinstance(error, HandlerFailed) else asdict(classify(error)),
    }


def restore_failure(failure: Message) -> BaseException:
    """The error for the worker to raise: what is Taurine's own as it was (its nearest class there), all others as
    HandlerFailed.
    """
    error = _restored(failure, failure["known"], failure["message"])
    error.add_note(f"In a process of its own:\n\n{failure['traceback']}")
    return error


def _restored(failure: Message, known: str | None, message: str) -> BaseException:
    if known in _PLAIN:
        return _PLAIN[known](message)
    if known in _DELAYED:
        return _DELAYED[known](failure["delay"], message)
    return HandlerFailed(
        message, type_name=failure["type_name"], traceback=failure["traceback"], verdict=failure["verdict"]
    )


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a handler's error may do anything, raise SystemExit too
        return "(its text cannot be had: __str__ raised)"


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - as above
        return f"{type(error).__qualname__}: {_text_of(error)}"
