"""An error as it is kept with a record: what it was, where it came from, and a fingerprint that groups its like."""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from taurine.errors import HandlerFailed
from taurine.jobs.reporting.lines import one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.queue.attempt import describe
from taurine.queue.wire import encode_text

__all__ = ["Failure", "RedactedError", "failure_of", "fingerprint", "frames_in", "presentable"]

_MESSAGE_LIMIT = 4 * 1024
_TRACE_LIMIT = 16 * 1024
_MARGIN = 4 * 1024

_OUR_OWN = tuple(str(Path(__file__).parents[2] / part) for part in ("jobs", "pipeline"))

Frame: TypeAlias = tuple[str, str]
"""The name of a file, without its folder, and that of a function in it."""

_FRAME = re.compile(r'^ {2}File "(?:[^"\n]*[/\\])?([^"\n]+)", line \d+, in (.+)$', re.MULTILINE)

_NODE_FRAME = re.compile(r"^ {4}at (?:(.+) \()?(?:[^()\n]*[/\\])?([^()/\\\n]+):\d+:\d+\)?$", re.MULTILINE)


class RedactedError(Exception):
    """Stands for an error whose own text must not be shown; what may be is its message, and its traceback as a note.

    type_name: that of the error itself.
    """

    type_name = ""


class Failure:
    """One attempt's error, redacted.

    json: `type`, `message`, `traceback`. fingerprint: 16 hexadecimal digits. error: as it was raised.

    line: the message for a log; summary: with the error's type in front. trace: the traceback for a log, indented, so that no line of it can pass for one of the
    log itself.
    shown: the error for the queue, where everybody who may look at it may read its text.
    """

    __slots__ = ("error", "fingerprint", "json", "message", "shown", "traceback", "type")

    def __init__(self, error: BaseException, redact: Redact) -> None:
        self.error = error
        # Cut before and after: the rules must not run over megabytes, and what a cut has left of a secret must go with the second one.
        said, trace = describe(error)[: _MESSAGE_LIMIT + _MARGIN], _last(_trace(error), _TRACE_LIMIT + _MARGIN)
        self.type = _type_of(error)
        shown, shown_trace = redact.text(said), redact.text(trace)
        self.message = _stored(encode_text(shown, limit=_MESSAGE_LIMIT))
        self.traceback = _stored(_last(shown_trace, _TRACE_LIMIT))
        self.fingerprint = _fingerprint(error)
        self.json = json.dumps(
            {"type": self.type, "message": self.message, "traceback": self.traceback}, ensure_ascii=False
        )
        self.shown = error if (shown, shown_trace) == (said, trace) else self._redacted()

    @property
    def line(self) -> str:
        return one_line(self.message)

    @property
    def summary(self) -> str:
        return f"{one_line(self.type)}: {self.line}"

    @property
    def trace(self) -> str:
        return "\n".join(f"    {one_line(line)}" for line in self.traceback.split("\n"))

    def _redacted(self) -> RedactedError:
        error = RedactedError(self.message)
        error.type_name = self.type
        error.add_note(f"{self.type}, redacted:\n{self.traceback}")
        return error


def failure_of(error: BaseException, redact: Redact = Redact.DEFAULT) -> Failure:
    """What is kept of `error`. Never raises, whatever the error does when it is looked at."""
    return Failure(error, redact)


def presentable(error: Exception) -> Exception:
    """`error`, or one that stands for it where it raises when it is looked at: whoever asks of what kind it is would
    get that in its place.
    """
    try:
        _ = isinstance(error, HandlerFailed), error.__traceback__
    except Exception:  # noqa: BLE001 - a handler's error may do anything
        return RuntimeError(f"{type(error).__qualname__}, an error that raises when it is looked at")
    return error


def _type_of(error: BaseException) -> str:
    return error.type_name.rpartition(".")[2] if isinstance(error, HandlerFailed) else type(error).__name__


def _trace(error: BaseException) -> str:
    if isinstance(error, HandlerFailed):
        return error.traceback
    try:
        return "".join(traceback.format_exception(type(error), error, _after_our_own(error.__traceback__))).rstrip()
    except Exception:  # noqa: BLE001 - a handler's error may do anything
        return f"{type(error).__name__}: {describe(error)}"


def _after_our_own(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from where the handler's code begins: who reads it knows that we called it."""
    own = trace
    while own is not None and own.tb_frame.f_code.co_filename.startswith(_OUR_OWN):
        own = own.tb_next
    return own or trace


def _last(text: str, limit: int) -> str:
    """The end of a text, which is the part of a traceback that tells."""
    return encode_text(text if len(text) <= limit else f"(cut) …{text[-limit:]}", limit=2 * limit)


def _stored(text: str) -> str:
    # PostgreSQL's text holds every character but this one.
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def fingerprint(kind: str, frames: Sequence[Frame]) -> str:
    """16 hexadecimal digits: the type and the place in the code, innermost last, without the message, since that holds
    ids and times that differ each time.
    """
    place = "\n".join(f"{file}:{function}" for file, function in frames[-5:])
    return hashlib.sha256(f"{kind}\n{place}".encode(errors="replace")).hexdigest()[:16]


def frames_in(trace: str) -> list[Frame]:
    """The places that a traceback of Python or Node names, innermost last; none for any other text."""
    if frames := _FRAME.findall(trace):
        return frames
    return [(file, function) for function, file in reversed(_NODE_FRAME.findall(trace))]


def _fingerprint(error: BaseException) -> str:
    if isinstance(error, HandlerFailed):
        return fingerprint(error.type_name, frames_in(error.traceback))
    frames = [(frame.filename.rpartition("/")[2], frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    return fingerprint(f"{type(error).__module__}.{type(error).__qualname__}", frames)
