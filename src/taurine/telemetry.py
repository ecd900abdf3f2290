"""Traces and measures: what the engine and the jobs say of their work, and to whom is the application's choice.

The interface that a telemetry has to fill, and no more: nothing here knows OpenTelemetry, and nothing is recorded by
itself. `taurine.observe.otel` fills it for OpenTelemetry. The words are those of BullMQ's own interface, so that who
has written one for Node can write the other.

What travels with a job is one text (`ContextManager.inject`), opaque to everything in between, in BullMQ's own field.
So a span that Node has begun goes on here, and the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol, TypeAlias

__all__ = [
    "Attributes",
    "ContextManager",
    "Counter",
    "Gauge",
    "Histogram",
    "Meter",
    "Span",
    "SpanContext",
    "SpanKind",
    "Telemetry",
    "Tracer",
    "trace_id_in",
]

SpanKind: TypeAlias = Literal["internal", "server", "client", "producer", "consumer"]

Attributes: TypeAlias = Mapping[str, str | bool | int | float | Sequence[str]]

SpanContext: TypeAlias = Any
"""Where in which trace one is: whatever a telemetry makes of it. Only it looks inside."""


class Span(Protocol):
    """One piece of work, from its start to `end`. May be told of from any thread. None of it may raise."""

    @property
    def is_recording(self) -> bool:
        """False where nobody will see it: what is costly to say need not be said then."""
        ...

    def set_attributes(self, attributes: Attributes) -> None: ...

    def add_event(self, name: str, attributes: Attributes) -> None: ...

    def record_error(self, error: BaseException) -> None:
        """The work has failed, and by what."""
        ...

    def on_context(self, context: SpanContext) -> SpanContext:
        """`context` with this span as the one that others are children of."""
        ...

    def end(self, *, at: float | None = None) -> None:
        """at: when, wall seconds. Default: now."""
        ...


class Tracer(Protocol):
    """Begins spans."""

    def start_span(
        self,
        name: str,
        *,
        kind: SpanKind,
        context: SpanContext,
        links: Sequence[SpanContext] = (),
        at: float | None = None,
    ) -> Span:
        """context: that of the parent; an empty one begins a trace. links: of spans that led to this one and are not
        its parent. at: its start, wall seconds.
        Default: now.
        """
        ...


class ContextManager(Protocol):
    """Knows which span is the active one, and takes it from one process to another.

    It has to follow asyncio's tasks and `contextvars`.
    """

    def active(self) -> SpanContext:
        """That of the code that calls."""
        ...

    def root(self) -> SpanContext:
        """An empty one, for work that belongs to nobody's request."""
        ...

    def use(self, context: SpanContext) -> AbstractContextManager[Any]:
        """Make it the active one within a `with` block."""
        ...

    def inject(self, context: SpanContext) -> str | None:
        """As text that travels with a job: at most some hundred printable characters.

        None where there is nothing to tell.
        """
        ...

    def extract(self, carried: str) -> SpanContext:
        """What was injected, here or on Node; an empty context for text that says nothing. Anybody may have written it."""
        ...

    def from_headers(self, headers: Mapping[str, str]) -> SpanContext:
        """The context that an HTTP request came with, by its headers in lower case; an empty one for a request without."""
        ...


class Counter(Protocol):
    """Goes up."""

    def add(self, value: int, attributes: Attributes, /) -> None: ...


class Histogram(Protocol):
    """How often a value was about so large."""

    def record(self, value: float, attributes: Attributes, /) -> None: ...


class Gauge(Protocol):
    """The latest value."""

    def record(self, value: float, attributes: Attributes, /) -> None: ...


class Meter(Protocol):
    """Makes what measures are told to. unit: in UCUM's words, such as "ms"."""

    def create_counter(self, name: str, *, unit: str, description: str) -> Counter: ...

    def create_histogram(self, name: str, *, unit: str, description: str) -> Histogram: ...

    def create_gauge(self, name: str, *, unit: str, description: str) -> Gauge: ...


class Telemetry(Protocol):
    """What `Queue`, `Worker` and `Taurine` take as `telemetry`. meter: None measures nothing."""

    @property
    def tracer(self) -> Tracer: ...

    @property
    def context_manager(self) -> ContextManager: ...

    @property
    def meter(self) -> Meter | None: ...


_W3C = re.compile(r"\b[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\b")


def trace_id_in(carried: str | None) -> str | None:
    """The trace's own id in what travels with a job, for lines that somebody searches by it; the text itself where it
    is none of the W3C's form.
    """
    if carried is None:
        return None
    found = _W3C.search(carried)
    return carried if found is None else found[1]
