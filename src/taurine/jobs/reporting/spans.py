"""Spans about jobs: what an application, its workers and its handlers tell their telemetry, and never more than a log
line may show.

The rules of redaction are applied here, to the spans of the engine too, since nobody knows where a telemetry sends what
it is told.
"""

from __future__ import annotations

import contextlib
from asyncio import CancelledError
from collections.abc import Generator, Mapping, Sequence
from typing import Any

from taurine.errors import Cancel, HandlerSignal, Permanent, RetryAfter
from taurine.jobs.reporting.failures import RedactedError, failure_of
from taurine.jobs.reporting.lines import one_line
from taurine.jobs.reporting.redaction import Redact
from taurine.telemetry import Attributes, ContextManager, Meter, Span, SpanContext, SpanKind, Telemetry

__all__ = ["RedactedTelemetry", "Spans"]

_IDS = frozenset({"bullmq.job.id", "taurine.job.id"})
_TEXTS = frozenset({"bullmq.job.failed.reason", "bullmq.job.deduplication.key", "taurine.effect.key", "taurine.user"})
"""Attributes that users have a word in."""


class RedactedTelemetry:
    """Another telemetry, told by the rules of `redact`."""

    def __init__(self, telemetry: Telemetry, redact: Redact) -> None:
        self.context_manager: ContextManager = telemetry.context_manager
        self.meter: Meter | None = telemetry.meter
        self.tracer = _RedactedTracer(telemetry, redact)


class _RedactedTracer:
    def __init__(self, telemetry: Telemetry, redact: Redact) -> None:
        self._tracer = telemetry.tracer
        self._redact = redact

    def start_span(
        self,
        name: str,
        *,
        kind: SpanKind,
        context: SpanContext,
        links: Sequence[SpanContext] = (),
        at: float | None = None,
    ) -> Span:
        span = self._tracer.start_span(name, kind=kind, context=context, links=links, at=at)
        return _RedactedSpan(span, self._redact) if span.is_recording else span


class _RedactedSpan:
    __slots__ = ("_redact", "_span", "end", "is_recording", "on_context")

    def __init__(self, span: Span, redact: Redact) -> None:
        self._span = span
        self._redact = redact
        self.is_recording = True
        self.on_context = span.on_context
        self.end = span.end

    def set_attributes(self, attributes: Attributes) -> None:
        self._span.set_attributes(self._shown(attributes))

    def add_event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, self._shown(attributes))

    def record_error(self, error: BaseException) -> None:
        if isinstance(error, RedactedError):
            self._span.record_error(error)
            self._span.set_attributes({"error.type": error.type_name})
            return
        failure = failure_of(error, self._redact)
        self._span.record_error(failure.shown)
        self._span.set_attributes({"error.type": failure.type})

    def _shown(self, attributes: Attributes) -> Attributes:
        redact = self._redact
        shown = {name: one_line(redact.job_id(str(attributes[name]))) for name in attributes.keys() & _IDS}
        shown |= {name: redact.text(str(attributes[name])) for name in attributes.keys() & _TEXTS}
        return {**attributes, **shown} if shown else attributes


class Spans:
    """Makes spans for work of the application's own. about: attributes that each of them has."""

    def __init__(self, telemetry: Telemetry, about: Attributes | None = None) -> None:
        self._telemetry = telemetry
        self._about: Mapping[str, Any] = about or {}

    def about(self, attributes: Attributes) -> Spans:
        """The same, for spans that have these attributes too."""
        return Spans(self._telemetry, {**self._about, **attributes})

    def carried(self) -> str | None:
        """The active context, as it travels with a job."""
        contexts = self._telemetry.context_manager
        return contexts.inject(contexts.active())

    @contextlib.contextmanager
    def span(self, name: str, *, kind: SpanKind = "internal", attributes: Attributes | None = None) -> Generator[Span]:
        """Told from the beginning of the block to its end, as a child of the active span, which it is itself meanwhile.

        An error is recorded; being cut off, and what a handler raises to choose the outcome of its attempt, is none.
        """
        contexts = self._telemetry.context_manager
        parent = contexts.active()
        span = self._telemetry.tracer.start_span(name, kind=kind, context=parent)
        try:
            if span.is_recording:
                span.set_attributes({**self._about, **(attributes or {})})
            with contexts.use(span.on_context(parent)):
                yield span
        except (CancelledError, Cancel):
            span.add_event("cut off", {})
            raise
        except BaseException as error:
            if isinstance(error, HandlerSignal) and not isinstance(error, Permanent | RetryAfter):
                span.add_event("left", {"taurine.signal": type(error).__name__})
            else:
                span.record_error(error)
            raise
        finally:
            span.end()
