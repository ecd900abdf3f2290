"""An error as it is kept with a record: what it was, where it came from, and a fingerprint that groups its like."""

from __future__ import annotations

import hashlib
import json
import traceback

from taurine.queue.attempt import describe
from taurine.queue.wire import encode_text

__all__ = ["Failure", "failure_of"]

_MESSAGE_LIMIT = 4 * 1024
_TRACE_LIMIT = 16 * 1024


class Failure:
    """One attempt's error. json: `type`, `message`, `traceback`. fingerprint: 16 hexadecimal digits."""

    __slots__ = ("error", "fingerprint", "json", "message", "type")

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.type = type(error).__name__
        self.message = encode_text(describe(error), limit=_MESSAGE_LIMIT).replace("\0", "\N{REPLACEMENT CHARACTER}")
        self.fingerprint = _fingerprint(error)
        trace = encode_text(_trace(error), limit=_TRACE_LIMIT).replace("\0", "\N{REPLACEMENT CHARACTER}")
        self.json = json.dumps({"type": self.type, "message": self.message, "traceback": trace}, ensure_ascii=False)


def failure_of(error: BaseException) -> Failure:
    """What is kept of `error`. Never raises, whatever the error does when it is looked at."""
    return Failure(error)


def _trace(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - a handler's error may do anything
        return f"{type(error).__name__}: {describe(error)}"


def _fingerprint(error: BaseException) -> str:
    """The type and the place in the code, without the message: it holds ids and times that differ each time."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    place = "\n".join(f"{frame.filename.rpartition('/')[2]}:{frame.name}" for frame in frames)
    return hashlib.sha256(f"{type(error).__module__}.{type(error).__qualname__}\n{place}".encode()).hexdigest()[:16]
