"""What a handler is given beside its payload: who it is, how to tell how far it is, and how to hear that it is to stop."""

from __future__ import annotations

import json
import logging
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
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar, overload

from taurine.clock import Clock
from taurine.errors import Cancel, InvalidOption
from taurine.jobs.lines import line_fields
from taurine.ledger.job_logs import LogLevel, LogLine

__all__ = ["Context", "Effects"]

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
"""Lines that one attempt may leave with its record; what comes after is only in the process's own log."""


class Effects(Protocol):
    """How a context does something once; see `Context.once`."""

    async def once(
        self,
        context: Context,
        key: str,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        look_up: Callable[[], Any] | None,
    ) -> Any: ...


class _Yield:
    """What `progress` returns: it may be awaited, which lets others run, and need not be."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        yield


_YIELD = _Yield()


class JobLog:
    """A logger whose lines carry the job's context, and stay with the job. Called itself, it writes at level info.

    fields: further words for the line, kept apart from its text: `ctx.log.info("charged", amount=12)`.
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

    def _write(self, level: int, message: str, fields: dict[str, Any]) -> None:
        if _handler_log.isEnabledFor(level):
            _handler_log.log(level, "%s", message, extra={**line_fields(self._context), "fields": fields})
        self._context.add_line(_LEVELS[level], message, fields)


class Context:
    """One attempt of one job, as its handler sees it.

    job_id, type, queue: what runs. attempt: 1 for the first that is charged. max_attempts: attempts in all. tenant: whose job it is, or None.
    user: who asked for it. trace: its trace context. deps: what the application injects.
    """

    __slots__ = (
        *(
            "_cancel_reason",
            "_clock",
            "_created_at_ms",
            "_deadline_ms",
            "_effects",
            "_log",
            "_progress",
            "_saved_state",
        ),
        *(
            "_scheduled_for_ms",
            "_state",
            "attempt",
            "deps",
            "fence",
            "job_id",
            "lines",
            "max_attempts",
            "progress_changed",
        ),
        *("queue", "tenant", "trace", "type", "user"),
    )

    def __init__(
        self,
        *,
        job_id: str,
        type: str,
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
        effects: Effects,
        clock: Clock,
    ) -> None:
        self.job_id = job_id
        self.type = type
        self.queue = queue
        self.attempt = attempt
        self.max_attempts = max_attempts
        self.tenant = tenant
        self._created_at_ms = created_at_ms
        self._scheduled_for_ms = scheduled_for_ms
        self._deadline_ms = deadline_ms
        self.user = user
        self.deps = deps
        self.fence = fence
        self.lines: list[LogLine] = []
        self.progress_changed = False
        self.trace = trace
        self._saved_state = state
        self._state: dict[str, Any] | None = None
        self._progress: dict[str, Any] | None = None if progress is None else json.loads(progress)
        self._cancel_reason: str | None = None
        self._effects = effects
        self._clock = clock
        self._log: JobLog | None = None

    @property
    def created_at(self) -> datetime:
        """When the job was accepted."""
        return datetime.fromtimestamp(self._created_at_ms / 1000, UTC)

    @property
    def scheduled_for(self) -> datetime | None:
        """When the job was to start, if that was asked for."""
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

        What is shown never goes back and never passes the total, whatever is said. Cheap: it is written a few times a second at most, together
        with `state`. May be called from any thread; may be awaited, which lets other jobs run, and need not be.
        """
        whole = 1.0 if total is None else float(total)
        share = 1.0 if whole <= 0 else min(1.0, max(0.0, done / whole))
        before = self._progress
        if before is not None and share < before["share"]:
            share, done = before["share"], before["done"]
        self._progress = {
            "done": min(done, whole) if whole > 0 else done,
            "total": total,
            "share": share,
            "percentage": round(share * 100),
            "message": message if message is not None or before is None else before["message"],
        }
        self.progress_changed = True
        return _YIELD

    @overload
    def track(self, items: AsyncIterable[ItemT], *, total: int | None = None) -> AsyncIterator[ItemT]: ...
    @overload
    def track(self, items: Iterable[ItemT], *, total: int | None = None) -> Iterator[ItemT]: ...
    def track(
        self, items: Iterable[ItemT] | AsyncIterable[ItemT], *, total: int | None = None
    ) -> Iterator[ItemT] | AsyncIterator[ItemT]:
        """The items one by one, with progress told after each, and Cancel raised between two when the job is to stop.

        total: how many there are. Default: their length, if they have one.
        """
        if total is None and isinstance(items, Sized):
            total = len(items)
        if isinstance(items, AsyncIterable):
            return self._track_async(items, total)
        return self._track(items, total)

    def _track(self, items: Iterable[ItemT], total: int | None) -> Iterator[ItemT]:
        done = 0
        for item in items:
            self.raise_if_cancelled()
            yield item
            done += 1
            if total is not None:
                self.progress(done, total)

    async def _track_async(self, items: AsyncIterable[ItemT], total: int | None) -> AsyncIterator[ItemT]:
        done = 0
        async for item in items:
            self.raise_if_cancelled()
            yield item
            done += 1
            if total is not None:
                self.progress(done, total)

    @property
    def state(self) -> dict[str, Any]:
        """A small dict that is saved with the progress and given to the next attempt: a cursor, a count. Must be JSON."""
        state = self._state
        if state is None:
            state = self._state = {} if self._saved_state is None else json.loads(self._saved_state)
        return state

    @state.setter
    def state(self, value: Mapping[str, Any]) -> None:
        self._state = dict(value)

    # Being told to stop -----------------------------------------------------------------------------------------------------------

    @property
    def cancelled(self) -> bool:
        """True once the attempt is to stop: the job was cancelled, its time is up, its lease is lost, or the worker stops."""
        return self._cancel_reason is not None

    @property
    def cancel_reason(self) -> str | None:
        return self._cancel_reason

    def raise_if_cancelled(self) -> None:
        """Raise Cancel if the attempt is to stop."""
        if self._cancel_reason is not None:
            raise Cancel(self._cancel_reason)

    def request_cancel(self, reason: str) -> None:
        """For the runtime: make `cancelled` true. The first reason stays."""
        if self._cancel_reason is None:
            self._cancel_reason = reason

    # Doing something once ---------------------------------------------------------------------------------------------------------

    async def once(
        self,
        key: str,
        function: Callable[..., Awaitable[ResultT] | ResultT],
        *arguments: Any,
        look_up: Callable[[], Any] | None = None,
    ) -> ResultT:
        """Do something that must not be done twice: charge a card, send a letter.

        key: names the operation, for example "charge:42", within the job's tenant. The intent is committed before `function(*arguments)` is called and its result
        after; a later attempt, of this job or of another, gets the stored result and does not call it. The result must be JSON.

        A crash between the two leaves open whether it happened. Then `look_up()` is asked: it returns the result if it did happen, or None if it did not.
        Without a look_up, EffectUnknown is raised: it is never silently done again. An error that the function raises itself means that nothing happened;
        the key is free again.

        Raises EffectUnknown, EffectInProgress when another attempt is doing it now, and what the function raises.
        """
        return await self._effects.once(self, key, function, arguments, look_up)

    # For the runtime --------------------------------------------------------------------------------------------------------------

    def add_line(self, level: LogLevel, message: str, fields: Mapping[str, Any]) -> None:
        """Keep a log line until it is saved."""
        if len(self.lines) < _LOG_LINES:
            text = message if not fields else f"{message} {json.dumps(dict(fields), default=str, ensure_ascii=False)}"
            self.lines.append(LogLine(round(self._clock.now() * 1000), level, text))

    def progress_json(self) -> str | None:
        return None if self._progress is None else json.dumps(self._progress, ensure_ascii=False, separators=(",", ":"))

    @property
    def progress_value(self) -> dict[str, Any] | None:
        return self._progress

    def changed_state_json(self) -> str | None:
        """The state as JSON, if it is not what was saved last; it counts as saved then. Raises InvalidOption for what is no JSON."""
        if self._state is None:
            return None
        try:
            text = json.dumps(self._state, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InvalidOption(f"ctx.state must be JSON: {error}") from None
        if text == self._saved_state or (self._saved_state is None and not self._state):
            return None
        self._saved_state = text
        return text

    def snapshot(self) -> dict[str, Any]:
        """What a handler in another process may read of its job, as JSON."""
        return {
            "job_id": self.job_id,
            "type": self.type,
            "queue": self.queue,
            "attempt": self.attempt,
            "max_attempts": self.max_attempts,
            "tenant": self.tenant,
            "user": self.user,
            "created_at": self.created_at.isoformat(),
            "scheduled_for": None if self.scheduled_for is None else self.scheduled_for.isoformat(),
            "deadline": None if self.deadline is None else self.deadline.isoformat(),
            "state": self.state,
        }

    def notify(self, name: str, body: Any) -> None:
        """What a handler in another process says."""
        if name == "progress":
            self.progress(body["done"], body.get("total"), body.get("message"))
        elif name == "state":
            self.state = body
        elif name == "log":
            self.add_line(body["level"], body["message"], body.get("fields") or {})

    async def answer(self, name: str, body: Any) -> Any:
        """What a handler in another process asks."""
        raise InvalidOption(
            f"a handler in a process of its own cannot use ctx.{name}; run it in the loop or in a thread"
        )


def _time(ms: float | None) -> datetime | None:
    return None if ms is None else datetime.fromtimestamp(ms / 1000, UTC)
