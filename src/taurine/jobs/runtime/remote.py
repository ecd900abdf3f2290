"""The context of a handler in a process of its own.

It has the same names as in the worker; what it says, and what it asks, goes through the line to the worker.

`ctx.deps` is what the application there has: the process imports the module that makes the application, and so makes
its own. What `app.worker(deps=…)` was given lives in the worker alone.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from pydantic_core import to_jsonable_python

from taurine.clock import SystemClock
from taurine.errors import InvalidOption
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.payloads import Codec
from taurine.jobs.catalog.signatures import annotations_of, takes_payload
from taurine.jobs.catalog.without_payload import NoPayload, given_context_alone
from taurine.jobs.executors import Bound, Link
from taurine.jobs.executors.call import takes_context
from taurine.jobs.handler.context import Context
from taurine.jobs.handler.effects import Ask, Steps, answered, answered_sync
from taurine.jobs.reporting.redaction import Redact
from taurine.ledger.effects import EffectState
from taurine.ledger.job_logs import LONGEST_LINE
from taurine.retry import classify
from taurine.telemetry import ContextManager, SpanContext, Telemetry

__all__ = ["ProcessContext", "bind"]

_TELL_SECONDS = 0.05
"""Seconds between two times that progress is told to the worker, which saves it less often still. What was not told
goes with the end.
"""


def bind(found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link) -> Bound:
    """The Binder of workers: the payload as its job type declares it, and the context."""
    job_type = cast("JobType[Any, Any]", found) if isinstance(found, JobType) else None
    context = ProcessContext(snapshot, link, job_type)
    codec = _payload_codec(job_type, handler, context.type)
    value = codec.decode(payload)
    if codec.annotation is NoPayload and not takes_payload(handler):
        handler = given_context_alone(handler)

    def invoke() -> Any:
        return handler(value, context) if takes_context(handler) else handler(value)

    telemetry: Telemetry | None = None if job_type is None else getattr(job_type.producer, "telemetry", None)
    if telemetry is not None and context.trace is not None:
        invoke = _traced(invoke, telemetry.context_manager, context.trace)
    rules = classify if job_type is None else job_type.options.retry.classify
    return Bound(invoke=lambda: _told(invoke, context), classify=rules)


def _traced(invoke: Callable[[], Any], contexts: ContextManager, carried: str) -> Callable[[], Any]:
    """`invoke` with the attempt's context as the active one: what the handler adds, and the spans of its libraries, are
    children of the attempt.
    """

    def traced() -> Any:
        context = contexts.extract(carried)
        with contexts.use(context):
            value = invoke()
        return _awaited_within(value, contexts, context) if inspect.isawaitable(value) else value

    return traced


async def _awaited_within(value: Awaitable[Any], contexts: ContextManager, context: SpanContext) -> Any:
    with contexts.use(context):
        return await value


def _payload_codec(job_type: JobType[Any, Any] | None, handler: Callable[..., Any], name: str) -> Codec[Any]:
    if job_type is not None:
        return job_type.payload
    # The name of the handler leads to the plain function, so the application is not to be had; its annotations are.
    return Codec(annotations_of(handler, name)[0], job_type=name, what="the payload")


def _told(invoke: Callable[[], Any], context: ProcessContext) -> Any:
    """Call the handler, and tell the worker what it leaves, also when it fails."""
    later = False
    try:
        value = invoke()
        later = inspect.isawaitable(value)
        if later:
            return _told_later(value, context)
        context.tell_returned(value)
        return value
    finally:
        if not later:
            context.tell()


async def _told_later(value: Awaitable[Any], context: ProcessContext) -> Any:
    try:
        result = await value
        context.heard = context.heard or context.cancelled  # it was cancelled at an await
        context.tell_returned(result)
        return result
    finally:
        context.tell()


class ProcessContext(Context):
    """See `Context`."""

    __slots__ = ("_app_deps", "_link", "_told_at", "_told_progress", "_worker_has_deps")

    def __init__(self, snapshot: Mapping[str, Any], link: Link, job_type: JobType[Any, Any] | None) -> None:
        members = dict(snapshot)
        self._worker_has_deps: bool = members.pop("has_deps")
        self._app_deps: Any = None if job_type is None else getattr(job_type.producer, "deps", None)
        self._link = link
        self._told_at = 0.0
        super().__init__(
            **members,
            deps=None,
            backing=_LinkBacking(link),
            signal=link,
            redact=Redact.NONE,  # the worker's side does it
            clock=SystemClock(),
        )
        self._told_progress = self.progress_value

    @property
    def deps(self) -> Any:
        """What the application of this process injects. Raises InvalidOption when only the worker's side has something."""
        if self._app_deps is None and self._worker_has_deps:
            raise InvalidOption(
                "ctx.deps does not travel to a process of its own; give deps to Taurine(…) in the module that declares the job type, which the process imports"
            )
        return self._app_deps

    def progress(self, done: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """See `Context.progress`."""
        awaitable = super().progress(done, total, message)
        if time.monotonic() - self._told_at >= _TELL_SECONDS:
            self.tell()
        return awaitable

    def tell(self) -> None:
        """Tell the worker of progress and state, if they have changed."""
        self._told_at = time.monotonic()
        value = self.progress_value
        if value is not None and value is not self._told_progress:
            self._told_progress = value
            self._link.notify("progress", self.progress_told)
        state = self.changed_state()
        if state is not None:
            self.state_saved(state)
            self._link.notify("state", json.loads(state))

    def tell_returned(self, value: Any) -> None:
        """Tell the worker what was returned by a handler that was to stop: its run there ends without it."""
        if self._link.cancelled:
            self._link.notify("returned", {"value": to_jsonable_python(value), "heard": self.heard})

    def write_line(self, level: int, message: str, fields: Mapping[str, Any]) -> None:
        plain: dict[str, Any] = json.loads(json.dumps(dict(fields), default=str)) if fields else {}
        self._link.notify("log", {"level": level, "message": str(message)[:LONGEST_LINE], "fields": plain})


class _LinkBacking:
    """Asks the worker's side (`LedgerBacking.answer`)."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def save(self, context: Context) -> None:
        _tell(context)
        await self._link.request_async("save", None)

    def save_sync(self, context: Context) -> None:
        _tell(context)
        self._link.request("save", None)

    async def take(self, context: Context, steps: Steps) -> Any:
        async def ask(question: Ask) -> Any:
            return _answer(question, await self._link.request_async("effect", question._asdict()))

        return await answered(steps, ask)

    def take_sync(self, context: Context, steps: Steps) -> Any:
        def ask(question: Ask) -> Any:
            return _answer(question, self._link.request("effect", question._asdict()))

        return answered_sync(steps, ask)

    async def answer(self, context: Context, name: str, body: Any) -> Any:
        raise InvalidOption(f"nobody asks a process for {name!r}")


def _tell(context: Context) -> None:
    if isinstance(context, ProcessContext):
        context.tell()


def _answer(question: Ask, reply: Any) -> Any:
    return EffectState(*reply) if question.step in ("begin", "retake") else reply
