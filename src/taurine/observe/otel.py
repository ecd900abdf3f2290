"""OpenTelemetry as the telemetry of queues, workers and applications: `Taurine("shop", telemetry=OpenTelemetry())`.

Of OpenTelemetry this needs its API alone, the extra `otel`: where spans and measures go, and which of them, is what the
application has told its SDK. Without an SDK nothing is recorded, and what others have begun still travels on.

A span has BullMQ's attributes, as `bullmq-otel` sets them on Node, and the messaging ones of OpenTelemetry's semantic
conventions, by which tools know a queue when they see one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

try:
    from opentelemetry import context as contexts
    from opentelemetry import metrics, propagate, trace
    from opentelemetry.trace import Link, Status, StatusCode
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "opentelemetry":
        raise
    raise ModuleNotFoundError(
        'OpenTelemetry needs the package opentelemetry-api: pip install "taurine[otel]"', name=error.name
    ) from error

from taurine.queue.attempt import describe
from taurine.telemetry import (
    Attributes,
    ContextManager,
    Counter,
    Gauge,
    Histogram,
    Meter,
    Span,
    SpanContext,
    SpanKind,
    Tracer,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

__all__ = ["OpenTelemetry"]

_SCOPE: Final = "taurine"
_KINDS: dict[SpanKind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_MESSAGING: dict[SpanKind, str] = {"producer": "send", "consumer": "process"}
"""`messaging.operation.type`, which only spans of these kinds have."""

_CONVENTIONS: dict[str, str] = {
    "bullmq.queue.name": "messaging.destination.name",
    "bullmq.queue.operation": "messaging.operation.name",
    "bullmq.job.id": "messaging.message.id",
    "bullmq.job.bulk.count": "messaging.batch.message_count",
}
"""What the semantic conventions call an attribute of ours; it is set under both names."""

_MOST_CHARACTERS = 8192
"""What another side has injected is read up to this length: its baggage is part of it."""


class OpenTelemetry:
    """Tells OpenTelemetry of spans and measures.

    tracer_provider, meter_provider: where to. Default: the global ones, whichever are set when the first span begins.
    propagator: how a context becomes text. Default: the global one, which writes W3C's `traceparent`, `tracestate` and
    `baggage` unless it was set to something else.
    measures: False tells of spans alone. Default: True.

    What travels with a job is the JSON of what the propagator writes, as `bullmq-otel` has it on Node.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        propagator: TextMapPropagator | None = None,
        measures: bool = True,
    ) -> None:
        self._tracer = _Tracer(trace.get_tracer(_SCOPE, tracer_provider=tracer_provider))
        self._contexts = _Contexts(propagator)
        self._meter = _Meter(metrics.get_meter(_SCOPE, meter_provider=meter_provider)) if measures else None

    @property
    def tracer(self) -> Tracer:
        """Begins spans."""
        return self._tracer

    @property
    def context_manager(self) -> ContextManager:
        """OpenTelemetry's own context, which follows `contextvars`."""
        return self._contexts

    @property
    def meter(self) -> Meter | None:
        """What is counted and measured."""
        return self._meter


class _Span:
    __slots__ = ("_is_message", "_span", "is_recording")

    def __init__(self, span: trace.Span, kind: SpanKind) -> None:
        self._span = span
        self._is_message = kind in _MESSAGING
        self.is_recording = span.is_recording()

    def set_attributes(self, attributes: Attributes) -> None:
        known = {_CONVENTIONS[name]: value for name, value in attributes.items() if name in _CONVENTIONS}
        self._span.set_attributes({**attributes, **known} if known else attributes)

    def add_event(self, name: str, attributes: Attributes) -> None:
        self._span.add_event(name, attributes)

    def record_error(self, error: BaseException) -> None:
        if self.is_recording:
            self._span.record_exception(error)
            self._span.set_attribute("error.type", type(error).__qualname__)
            self._span.set_status(Status(StatusCode.ERROR, describe(error)))

    def on_context(self, context: SpanContext) -> SpanContext:
        return trace.set_span_in_context(self._span, context)

    def end(self, *, at: float | None = None) -> None:
        self._span.end(_nanoseconds(at))


class _Tracer:
    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    def start_span(
        self,
        name: str,
        *,
        kind: SpanKind,
        context: SpanContext,
        links: Sequence[SpanContext] = (),
        at: float | None = None,
    ) -> Span:
        span = self._tracer.start_span(
            name,
            context=context,
            kind=_KINDS[kind],
            links=[
                Link(found) for link in links if (found := trace.get_current_span(link).get_span_context()).is_valid
            ],
            start_time=_nanoseconds(at),
            record_exception=False,
            set_status_on_exception=False,
        )
        told = _Span(span, kind)
        if told.is_recording and kind in _MESSAGING:
            span.set_attributes({"messaging.system": "bullmq", "messaging.operation.type": _MESSAGING[kind]})
        return told


class _Contexts:
    def __init__(self, propagator: TextMapPropagator | None) -> None:
        self._propagator = propagator

    def active(self) -> Context:
        return contexts.get_current()

    def root(self) -> Context:
        return contexts.Context()

    def use(self, context: SpanContext) -> _Use:
        return _Use(context)

    def inject(self, context: SpanContext) -> str | None:
        carried: MutableMapping[str, Any] = {}
        self._text_map().inject(carried, context)
        return json.dumps(carried, separators=(",", ":")) if carried else None

    def extract(self, carried: str) -> Context:
        if len(carried) > _MOST_CHARACTERS:
            return self.root()
        try:
            found: Any = json.loads(carried)
        except (ValueError, RecursionError):
            return self.root()
        if not isinstance(found, dict):
            return self.root()
        members = cast("dict[Any, Any]", found)
        # JSON holds halves of characters; headers do not, and propagators fail on them.
        return self.from_headers(
            {_whole(name): _whole(value) for name, value in members.items() if isinstance(value, str)}
        )

    def from_headers(self, headers: Mapping[str, str]) -> Context:
        return self._text_map().extract(headers, self.root())

    def _text_map(self) -> TextMapPropagator:
        return propagate.get_global_textmap() if self._propagator is None else self._propagator


def _whole(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


class _Use:
    """A class, since a generator would cost more than the rest of a span that is sampled out."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._token: Any = None

    def __enter__(self) -> None:
        self._token = contexts.attach(self._context)

    def __exit__(self, *_: object) -> None:
        contexts.detach(self._token)


class _Meter:
    def __init__(self, meter: metrics.Meter) -> None:
        self._meter = meter

    def create_counter(self, name: str, *, unit: str, description: str) -> Counter:
        return self._meter.create_counter(name, unit, description)

    def create_histogram(self, name: str, *, unit: str, description: str) -> Histogram:
        return self._meter.create_histogram(name, unit, description)

    def create_gauge(self, name: str, *, unit: str, description: str) -> Gauge:
        return _Gauge(self._meter.create_gauge(name, unit, description))


class _Gauge:
    def __init__(self, gauge: Any) -> None:
        self._gauge = gauge

    def record(self, value: float, attributes: Attributes, /) -> None:
        self._gauge.set(value, attributes)


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else round(at * 1e9)
