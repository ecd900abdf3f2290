"""What errors mean for the exit code, and what to do about them."""

from __future__ import annotations

from taurine.errors import (
    AccessError,
    CatalogError,
    EmbeddedServerError,
    HandlerMissing,
    InvalidOption,
    JobCancelled,
    JobExpired,
    JobFailed,
    LedgerRefused,
    LedgerUnavailable,
    PayloadError,
    QueueError,
    RecordError,
    RecordNotFound,
    ScheduleNotFound,
    SchemaMismatch,
    StoreRefused,
    StoreUnavailable,
    TaurineError,
    UnknownJobType,
    UnknownName,
    WaitTimeout,
)

__all__ = [
    "BROKEN_PIPE",
    "BUG",
    "CANCELLED",
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "NO",
    "REFUSED",
    "TIMED_OUT",
    "UNAVAILABLE",
    "USAGE",
    "codes",
    "exit_code_of",
    "hint_of",
]

DONE, NO, USAGE, UNAVAILABLE, REFUSED, FAILED, CANCELLED, TIMED_OUT = range(8)
BUG, INTERRUPTED, BROKEN_PIPE = 70, 130, 141
"""Exit codes; see `taurine.cli`."""

_EXIT_CODES: tuple[tuple[type[Exception], int], ...] = (
    (RecordNotFound, NO),
    (ScheduleNotFound, NO),
    (UnknownName, NO),
    (InvalidOption, USAGE),
    (PayloadError, USAGE),
    (CatalogError, USAGE),
    (LedgerUnavailable, UNAVAILABLE),
    (StoreUnavailable, UNAVAILABLE),
    (EmbeddedServerError, UNAVAILABLE),
    (JobFailed, FAILED),
    (JobCancelled, CANCELLED),
    (JobExpired, CANCELLED),
    (WaitTimeout, TIMED_OUT),
    (RecordError, REFUSED),
    (AccessError, REFUSED),
    (QueueError, REFUSED),
)
"""By the kind of error, the first that fits; others of ours are refusals too."""

_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (RecordNotFound, "`taurine jobs` lists what there is"),
    (ScheduleNotFound, "`taurine schedules` lists what there is"),
    (UnknownJobType, "`taurine --app module:name …`, or TAURINE_APP, names the application that declares it"),
    (HandlerMissing, "name the application whose modules import the handlers: taurine --app module:name …"),
    (LedgerUnavailable, "is the database up? `taurine doctor` looks at everything"),
    (LedgerRefused, "`taurine doctor` looks at the database and its disk"),
    (StoreUnavailable, "is the server of queues up? `taurine doctor` looks at everything"),
    (StoreRefused, "`taurine doctor` looks at the server's version, memory and rights"),
    (EmbeddedServerError, 'pip install "taurine[embedded]", or name a server with TAURINE_REDIS_URL'),
    (SchemaMismatch, "`taurine migrate` makes the tables"),
    (AccessError, "the application's own `authorize` said so"),
)


def exit_code_of(error: TaurineError) -> int:
    """The exit code for an error that a command has ended with."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), REFUSED)


def hint_of(error: TaurineError) -> str | None:
    """What to do next, where the error does not say it itself."""
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)


_MEANINGS = {
    DONE: "done",
    NO: "no such job",
    USAGE: "wrong usage",
    UNAVAILABLE: "a server does not answer",
    REFUSED: "refused",
}


def codes(more: dict[int, str] | None = None) -> str:
    """The last line of a command's help: its exit codes. more: those that differ, or that others do not have."""
    meanings = sorted((_MEANINGS | (more or {})).items())
    return f"Exit codes: {', '.join(f'{code} {meaning}' for code, meaning in meanings)}."
