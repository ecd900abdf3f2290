"""Telemetries for tests: one that is written down here and remembers what it was told, and OpenTelemetry's own SDK with
its memory as the exporter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from taurine.observe.otel import OpenTelemetry
from taurine.telemetry import Attributes, SpanKind

__all__ = ["FakeSpan", "FakeTelemetry", "Recorded", "id_of", "parent_of", "trace_of"]

_active: ContextVar[str] = ContextVar("fake_telemetry", default="")


@dataclass(eq=False)
class FakeSpan:
    """parent, links: names of contexts, which here are the numbers of spans as text."""

    number: str
    name: str
    kind: SpanKind
    parent: str
    links: list[str]
    started: float | None
    is_recording: bool = True
    attributes: dict[str, Any] = field(default_factory=dict[str, Any])
    events: list[str] = field(default_factory=list[str])
    errors: list[BaseException] = field(default_factory=list[BaseException])
    ended: int = 0

    def set_attributes(self, attributes: Attributes) -> None:
        self.attributes.update(attributes)

    def add_event(self, name: str, attributes: Attributes) -> None:
        self.events.append(name)

    def record_error(self, error: BaseException) -> None:
        self.errors.append(error)

    def on_context(self, context: str) -> str:
        return self.number

    def end(self, *, at: float | None = None) -> None:
        self.ended += 1


class FakeTelemetry:
    """Remembers its spans and what its instruments were told: `("bullmq.jobs.completed", 1, {…})`.

    recording: False as for spans that are sampled out.
    """

    def __init__(self, *, recording: bool = True) -> None:
        self.spans: list[FakeSpan] = []
        self.told: list[tuple[str, float, dict[str, Any]]] = []
        self._recording = recording
        self._numbers = count(1)
        self.tracer = self
        self.context_manager = self
        self.meter = self

    def named(self, name: str) -> list[FakeSpan]:
        """Its spans of this name, in the order in which they began."""
        return [span for span in self.spans if span.name == name]

    def start_span(
        self, name: str, *, kind: SpanKind, context: str, links: Sequence[str] = (), at: float | None = None
    ) -> FakeSpan:
        span = FakeSpan(f"{next(self._numbers)}", name, kind, context, list(links), at, self._recording)
        self.spans.append(span)
        return span

    def active(self) -> str:
        return _active.get()

    def root(self) -> str:
        return ""

    @contextlib.contextmanager
    def use(self, context: str) -> Generator[None]:
        token = _active.set(context)
        try:
            yield
        finally:
            _active.reset(token)

    def inject(self, context: str) -> str | None:
        return f"span {context}" if context else None

    def extract(self, carried: str) -> str:
        return carried.removeprefix("span ")

    def from_headers(self, headers: Mapping[str, str]) -> str:
        return headers.get("traceparent", "")

    def create_counter(self, name: str, *, unit: str, description: str) -> _Instrument:
        return _Instrument(name, self.told)

    def create_histogram(self, name: str, *, unit: str, description: str) -> _Instrument:
        return _Instrument(name, self.told)

    def create_gauge(self, name: str, *, unit: str, description: str) -> _Instrument:
        return _Instrument(name, self.told)


class _Instrument:
    def __init__(self, name: str, told: list[tuple[str, float, dict[str, Any]]]) -> None:
        self._name = name
        self._told = told

    def add(self, value: float, attributes: Attributes, /) -> None:
        self._told.append((self._name, value, dict(attributes)))

    record = add


class Recorded:
    """OpenTelemetry as an application sets it up, with what it exports kept here.

    sampler: which spans are recorded. Default: all.
    """

    def __init__(self, *, sampler: Sampler | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.telemetry = OpenTelemetry(self.provider, meters)
        self.tracer = self.provider.get_tracer("test")

    def spans(self, name: str = "") -> list[ReadableSpan]:
        """Those that have ended, of this name or of all, in the order in which they began."""
        found = [span for span in self._exporter.get_finished_spans() if name in ("", span.name)]
        return sorted(found, key=lambda span: span.start_time or 0)

    def one(self, name: str) -> ReadableSpan:
        """The only one of this name."""
        (span,) = self.spans(name)
        return span

    def measures(self) -> dict[str, dict[tuple[Any, ...], Any]]:
        """The data points of each instrument, by the values of their attributes, sorted by the attributes' names; of a
        histogram (count, sum).
        """
        data = self._reader.get_metrics_data()
        found: dict[str, dict[tuple[Any, ...], Any]] = {}
        for resource in [] if data is None else data.resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                for point in metric.data.data_points:
                    values = tuple(value for _, value in sorted((point.attributes or {}).items()))
                    value = point.value if isinstance(point, NumberDataPoint) else (point.count, point.sum)
                    found.setdefault(metric.name, {})[values] = value
        return found


def id_of(span: ReadableSpan) -> int:
    """What its children name as their parent."""
    return span.get_span_context().span_id  # pyright: ignore[reportOptionalMemberAccess] - it has ended


def trace_of(span: ReadableSpan) -> str:
    """The trace's id, as lines have it."""
    return f"{span.get_span_context().trace_id:032x}"  # pyright: ignore[reportOptionalMemberAccess] - as above


def parent_of(span: ReadableSpan) -> int | None:
    """The span id of its parent."""
    return None if span.parent is None else span.parent.span_id
