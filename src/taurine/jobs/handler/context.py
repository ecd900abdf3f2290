"""What a handler is given beside its payload: who it is, how to tell how far it is, and how to hear that it is to stop."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, overload

from taurine.clock import Clock, now_ms
from taurine.errors import Cancel, InvalidOption, PayloadError, Release
from taurine.jobs.handler.effects import Steps, steps_of
from taurine.jobs.handler.part import Part
from taurine.jobs.reporting.lines import line_fields, one_line, several_lines
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.reporting.spans import Spans
from taurine.ledger.job_logs import LONGEST_LINE, LogLevel, LogLine
from taurine.queue.wire import encode_json, encode_text
from taurine.telemetry import Attributes

__all__ = ["Backing", "Context", "Signal"]

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

_handler_log = logging.getLogger("taurine.handler")

_LEVELS: dict[int, LogLevel] = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warning",
    logging.ERROR: "error",
}

_LOG_LINES = 1000
"""Lines of one attempt that wait to be saved with its record; what comes while so many wait is only in the process's
own log.
"""

_PROGRESS_MEMBERS = ("done", "total", "share", "percentage", "message")
"""What every progress has; the part of a job that tells it adds its own."""

_STATE_LIMIT = 64 * 1024
"""Characters of a state's JSON: it is written again with each change."""


class Signal(Protocol):
    """What tells that the attempt is no longer wanted: the engine's job, or the line to the worker's process."""

    @property
    def cancel_reason(self) -> str | None: ...


class Backing(Protocol):
    """What stands behind a context, in the worker's process or at the other end of a line: where it saves, and how it
    does something once.
    """

    async def save(self, context: Context) -> None: ...

    def save_sync(self, context: Context) -> None: ...

    async def take(self, context: Context, steps: Steps) -> Any:
        """The end of `ctx.once`'s steps, whose questions are answered here."""
        ...

    def take_sync(self, context: Context, steps: Steps) -> Any: ...

    async def answer(self, context: Context, name: str, body: Any) -> Any:
        """What a handler in a process of its own asks of the worker's side."""
        ...


class _Yield:
    """What `progress` returns: it may be awaited, which lets others run, and need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield


_YIELD = _Yield()


class JobLog:
    """A logger whose lines carry the job's context, and stay with the job. Called itself, it writes at level info.

    fields: further words for the line, kept apart from its text: `ctx.log.info("charged", amount=12)`. What the
    application's rules of redaction say is hidden.
    May be called from any thread.
    """

    __slots__ = ("_context",)

    def __init__(self, context: Context) -> None:
        self._context = context

    def __call__(self, message: str, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def debug(self, message: str, **fields: Any) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, **fields: Any) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write(logging.ERROR, message, fields)

    def _write(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        part = self._context.part
        self._context.write_line(level, message, fields if part is None else {"stage": part.name, **fields})


class Context:
    """One attempt of one job, as its handler sees it.

    job_id, type, queue: what runs. attempt: 1 for the first that is charged. max_attempts: attempts in all. tenant:
    whose job it is, or None.
    user: who asked for it. trace: its trace context, as it travels. deps: what the application injects.

    `once_sync` and `save_sync` are for plain functions, in a thread or a process of their own; everything else is the
    same in each.
    """

    __slots__ = (
        *("_backing", "_cancel_reason", "_created_at_ms", "_deadline_ms", "_deps", "_log", "_part", "_progress"),
        *(
            "_redact",
            "_saved_progress",
            "_saved_state",
            "_scheduled_for_ms",
            "_shown_id",
            "_signal",
            "_spans",
            "_state",
        ),
        *("attempt", "ended", "fence", "heard", "job_id", "lines", "max_attempts", "queue", "returned", "tenant"),
        *("clock", "trace", "type", "user"),
    )

    def __init__(
        self,
        *,
        job_id: str,
        type: str,  # noqa: A002 - what it is called everywhere
        queue: str,
        attempt: int,
        max_attempts: int,
        tenant: str | None,
        created_at_ms: float,
        scheduled_for_ms: float | None,
        deadline_ms: float | None,
        user: str | None,
        trace: str | None,
        deps: Any,
        fence: int,
        state: str | None,
        progress: str | None,
        backing: Backing,
        signal: Signal,
        redact: Redact,
        clock: Clock,
        spans: Spans | None = None,
    ) -> None:
        self.job_id = job_id
        self.type = type
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.tenant = tenant
        self.user = user
        self.trace = trace
        self.fence = fence
        self.lines: list[LogLine] = []
        """Lines that wait to be saved."""
        self.heard = False
        """True once the handler was told that it is to stop."""
        self.returned: tuple[Any] | None = None
        """What the handler returned although its run was cut off."""
        self.ended = False
        """True when the runtime is done with the attempt, even if its code should still run."""
        self._created_at_ms = created_at_ms
        self._scheduled_for_ms = scheduled_for_ms
        self._deadline_ms = deadline_ms
        self._deps = deps
        self._saved_state = state
        self._state: dict[str, Any] | None = None
        self._progress: dict[str, Any] | None = None if progress is None else json.loads(progress)
        self._saved_progress = self._progress
        self._cancel_reason: str | None = None
        self._backing = backing
        self._signal = signal
        self._redact = redact
        self._spans = spans
        self.clock = clock
        """What the attempt measures time with."""
        self._part: Part | None = None
        self._log: JobLog | None = None
        self._shown_id: str | None = None

    @property
    def deps(self) -> Any:
        """What the application injects: `Taurine(deps=…)`, or what its worker was given."""
        return self._deps

    @property
    def created_at(self) -> datetime:
        """When the job was accepted; the same in each attempt."""
        return datetime.fromtimestamp(self._created_at_ms / 1000, UTC)

    @property
    def scheduled_for(self) -> datetime | None:
        """When the job was to start, if that was asked for; the same in each attempt."""
        return _time(self._scheduled_for_ms)

    @property
    def deadline(self) -> datetime | None:
        """When the time limit ends this attempt, if there is one."""
        return _time(self._deadline_ms)

    # Telling --------------------------------------------------------------------------------------------------------------------

    @property
    def log(self) -> JobLog:
        """A logger; its lines carry the job's id, attempt, type and tenant, and are kept with the job."""
        if self._log is None:
            self._log = JobLog(self)
        return self._log

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Say how far the job is: `done` of `total`, or a share of 1 without a total.

        What is shown never goes back and never passes the total, whatever is said; a total of 0 is done. Cheap: it is
        written a few times a second at most, together with `state`. May be called from any thread; may be awaited,
        which lets other jobs run, and need not be.
        """
        part = self._part
        if part is None:
            self._progress = _progress_after(self._progress, done, total, message)
        else:
            share = part.tell(_progress_after(None, done, total, None)["share"], message)
            self._progress = {**_progress_after(self._progress, share, None, message), **part.shown}
        return _YIELD

    @overload
    def track(
        self, items: AsyncIterable[ItemT], *, total: int | None = None, done: int = 0
    ) -> AsyncIterator[ItemT]: ...
    @overload
    def track(self, items: Iterable[ItemT], *, total: int | None = None, done: int = 0) -> Iterator[ItemT]: ...
    def track(
        self, items: Iterable[ItemT] | AsyncIterable[ItemT], *, total: int | None = None, done: int = 0
    ) -> Iterator[ItemT] | AsyncIterator[ItemT]:
        """The items one by one, with progress told after each, and Cancel raised between two when the job is to stop.

        total: how many there are. Default: their length, if they have one, and `done`. done: how many were done before,
        by an earlier attempt. Default: 0.
        """
        if total is None and isinstance(items, Sized):
            total = len(items) + done
        if isinstance(items, AsyncIterable):
            return self._track_async(items, total, done)
        return self._track(items, total, done)

    def _track(self, items: Iterable[ItemT], total: int | None, done: int) -> Iterator[ItemT]:
        for count, item in enumerate(items, done + 1):
            self.raise_if_cancelled()
            yield item
            if total is not None:
                self.progress(count, total)

    async def _track_async(self, items: AsyncIterable[ItemT], total: int | None, done: int) -> AsyncIterator[ItemT]:
        async for item in items:
            self.raise_if_cancelled()
            yield item
            done += 1
            if total is not None:
                self.progress(done, total)

    # Keeping --------------------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, Any]:
        """A small dict that is given to the next attempt: a cursor, a count. Must be JSON of at most 64 KiB.

        It is saved with the progress, a few times a second, and whenever an attempt ends without completing the job. An
        attempt whose process dies leaves what was saved last; `save` makes that what it is now. From a thread, assign a
        new dict rather than change several members.
        """
        state = self._state
        if state is None:
            state = self._state = {} if self._saved_state is None else json.loads(self._saved_state)
        return state

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        self._state = dict(value)

    async def save(self) -> None:
        """Commit state and progress now; when this returns the ledger has them, whatever becomes of this process.

        Raises InvalidOption for a state that is no JSON or too large, LedgerUnavailable, and Release when a later
        attempt of the job has begun:
        let it through.
        """
        self.refuse_if_ended()
        await self._backing.save(self)

    def save_sync(self) -> None:
        """`save` for plain functions. Raises InvalidOption on the event loop, which it would block."""
        self.refuse_if_ended()
        self._backing.save_sync(self)

    # Being told to stop -----------------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """True once the attempt is to stop: the job was cancelled, its time is up, its lease is lost, or the worker
        stops.

        A handler may return then. If the job was cancelled, what it returns is kept as the job's partial result; in the
        other cases it counts for nothing, and the job runs again.
        """
        if self._cancel_reason is None and self._signal.cancel_reason is None:
            return False
        self.heard = True
        return True

    @property
    def cancel_reason(self) -> str | None:
        """Why the attempt is to stop, once it is."""
        return self._cancel_reason or self._signal.cancel_reason

    def raise_if_cancelled(self) -> None:
        """Raise Cancel if the attempt is to stop; let it through."""
        if self.cancelled:
            raise Cancel(self.cancel_reason or "")

    # Doing something once ---------------------------------------------------------------------------------------------------------

    async def once(
        self,
        key: str,
        function: Callable[..., Awaitable[ResultT] | ResultT],
        *arguments: Any,
        look_up: Callable[[], Any] | None = None,
        not_done: tuple[type[Exception], ...] = (),
    ) -> ResultT:
        """Do something that must not be done twice: charge a card, send a letter.

        key: names the operation, for example "charge:42", within the job's tenant. The intent is committed before
        `function(*arguments)` is called and its result after; a later attempt, of this job or of another, gets the
        stored result and does not call it. The result must be JSON.

        A crash between the two leaves open whether it happened, and so does an error that the function raises. Then the
        next attempt asks `look_up()`: it returns the result if it did happen, or None if it did not. Without a look_up,
        EffectUnknown is raised: it is never silently done again.

        The key is free again after an error that proves that nothing happened: a refused connection, an HTTP status
        from 400 to 499, Permanent (see `taurine.retry.leaves_open`), or one of `not_done`, classes of errors of which
        you know it. Default: none.

        Raises EffectUnknown, which is not retried; EffectInProgress when another attempt is doing it now, which is;
        LedgerUnavailable, and then nothing was done;
        and what the function raises.
        """
        self.refuse_if_ended()
        steps = steps_of(self.job_id, key, function, arguments, look_up, not_done=not_done)
        with self._told_as("once", {"taurine.effect.key": key}):
            return await self._backing.take(self, steps)

    def once_sync(
        self,
        key: str,
        function: Callable[..., ResultT],
        *arguments: Any,
        look_up: Callable[[], Any] | None = None,
        not_done: tuple[type[Exception], ...] = (),
    ) -> ResultT:
        """`once` for plain functions: `function` and `look_up` are called right here, and are no async ones.

        Raises InvalidOption on the event loop.
        """
        self.refuse_if_ended()
        steps = steps_of(self.job_id, key, function, arguments, look_up, not_done=not_done)
        with self._told_as("once", {"taurine.effect.key": key}):
            return self._backing.take_sync(self, steps)

    # For the runtime --------------------------------------------------------------------------------------------------------------

    @property
    def shown_id(self) -> str:
        """The job's id as logs may show it."""
        if self._shown_id is None:
            self._shown_id = one_line(self._redact.job_id(self.job_id))
        return self._shown_id

    def request_cancel(self, reason: str) -> None:
        """Make `cancelled` true. The first reason stays."""
        if self._cancel_reason is None:
            self._cancel_reason = reason

    def refuse_if_ended(self) -> None:
        """Raise Release in code that still runs though its attempt was given up: the next one may be under way."""
        if self.ended:
            raise Release(f"this attempt of job {self.job_id!r} has ended")

    def write_line(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        """Write a line to the process's log, and keep it until it is saved."""
        text = self._redact.text(str(message)[:LONGEST_LINE])
        shown = self._redact.data(fields) if fields else fields
        if _handler_log.isEnabledFor(level):
            _handler_log.log(level, "%s", one_line(text), extra={**line_fields(self), "fields": shown})
        if len(self.lines) < _LOG_LINES and not self.ended:
            kept = json.dumps(shown, default=str) if shown else None  # in ASCII, which every database takes
            if (
                kept is not None and len(kept) > LONGEST_LINE
            ):  # as text then, of which no more than a line is kept: many may wait
                text, kept = f"{text} {kept}"[:LONGEST_LINE], None
            at = now_ms(self.clock)
            self.lines.append(LogLine(at, _LEVELS.get(level, "info"), several_lines(text), kept))

    def take_lines(self) -> list[LogLine]:
        """The lines that wait to be saved; they no longer wait."""
        lines = self.lines[:]
        del self.lines[: len(lines)]  # of the same list, since a handler in a thread may add to it meanwhile
        return lines

    def put_lines_back(self, lines: list[LogLine]) -> None:
        """What was taken could not be saved: it waits before what has come since, as far as there is room."""
        self.lines[:0] = lines
        del self.lines[_LOG_LINES:]

    @property
    def part(self) -> Part | None:
        """The part of the job that runs now, if it has parts."""
        return self._part

    @contextlib.contextmanager
    def within(self, part: Part) -> Generator[None]:
        """Meanwhile the handler's code is at a part of the job; parts may be inside of each other, not beside each
        other.
        """
        part.above, self._part = self._part, part
        try:
            with self._told_as(f"stage {part.name}", {"taurine.stage": part.name}):
                yield
        finally:
            self._part = part.above

    def _told_as(self, name: str, attributes: Attributes) -> AbstractContextManager[Any]:
        """A step of the attempt, as a span of its own where there is a telemetry."""
        return contextlib.nullcontext() if self._spans is None else self._spans.span(name, attributes=attributes)

    @property
    def progress_value(self) -> dict[str, Any] | None:
        """What was told last; each time another dict, which is not changed any more."""
        return self._progress

    @property
    def progress_told(self) -> dict[str, Any]:
        """What `notify` is given elsewhere to show the same progress."""
        value = self._progress or _progress_after(None, 0, None, None)
        shown = {name: member for name, member in value.items() if name not in _PROGRESS_MEMBERS}
        return {"done": value["done"], "total": value["total"], "message": value["message"], "shown": shown}

    @property
    def progress_changed(self) -> bool:
        """True if what was told last is not saved yet."""
        return self._progress is not self._saved_progress

    def progress_saved(self, value: dict[str, Any] | None) -> None:
        self._saved_progress = value

    @property
    def has_state(self) -> bool:
        """True if the handler has looked at the state, and so may have changed it."""
        return self._state is not None

    def changed_state(self) -> str | None:
        """The state as JSON, if it is not what was saved last. Raises InvalidOption for what cannot be saved."""
        if self._state is None:
            return None
        try:
            text = encode_json(self._state, "ctx.state")
        except PayloadError as error:
            raise InvalidOption(str(error)) from None
        except RuntimeError:  # a thread is changing it right now: it is saved the next time
            return None
        if len(text) > _STATE_LIMIT:
            raise InvalidOption(
                f"ctx.state has {len(text):,} characters of JSON, above the limit of {_STATE_LIMIT:,}; keep a cursor in it, not the data"
            )
        return None if text == (self._saved_state or "{}") else text

    def state_saved(self, text: str) -> None:
        self._saved_state = text

    def snapshot(self) -> dict[str, Any]:
        """What a context in another process is made of, as JSON."""
        return {
            "job_id": self.job_id,
            "type": self.type,
            "queue": self.queue,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "tenant": self.tenant,
            "created_at_ms": self._created_at_ms,
            "scheduled_for_ms": self._scheduled_for_ms,
            "deadline_ms": self._deadline_ms,
            "user": self.user,
            "trace": self.trace,
            "fence": self.fence,
            "has_deps": self._deps is not None,
            "state": self._saved_state,
            "progress": None if self._progress is None else encode_json(self._progress),
        }

    def notify(self, name: str, body: Any) -> None:
        """What a handler in another process says."""
        match name:
            case "progress":
                told = _progress_after(self._progress, body["done"], body["total"], body["message"])
                self._progress = {**told, **body["shown"]}
            case "state":
                self.state = body
            case "log":
                self.write_line(body["level"], body["message"], body["fields"])
            case "returned":
                self.returned = (body["value"],)
                self.heard = self.heard or body["heard"]
            case _:
                raise InvalidOption(f"a handler in a process of its own said {name!r}, which is not known here")

    async def answer(self, name: str, body: Any) -> Any:
        """What a handler in another process asks."""
        self.refuse_if_ended()
        return await self._backing.answer(self, name, body)


def _progress_after(
    before: dict[str, Any] | None, done: float, total: float | None, message: str | None
) -> dict[str, Any]:
    """What is shown when `done` of `total` is told after `before`: never less, never above the whole, and always JSON."""
    # A total that is no number is not known: nothing is a share of it.
    whole = 1.0 if total is None else _number(total, otherwise=math.inf)
    done = max(0, _number(done, otherwise=0))
    share = 1.0 if whole <= 0 else min(1.0, done / whole)
    if before is not None and share < before["share"]:
        share, done = before["share"], before["done"]
    return {
        "done": min(done, whole) if whole > 0 else done,
        "total": None if total is None or whole == math.inf else whole,
        "share": share,
        "percentage": math.floor(share * 100 + 0.5),
        "message": encode_text(message) if message is not None else None if before is None else before["message"],
    }


def _number(number: float, *, otherwise: float) -> float:
    plain = number if type(number) is int else float(number)
    return plain if math.isfinite(plain) else otherwise


def _time(ms: float | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
