"""What a queue and a worker tell their telemetry: the spans, the measures, and what travels with a job.

Names are BullMQ's.

    add q.name          producer   one job, until the server has it; the context of this span travels with the job
    addBulk q           producer   a list of jobs, which share its context
    process q           consumer   one attempt, a child of whoever added the job; a retry is its sibling, linked to the attempt that failed
    wait q              internal   from the time that the job could start to its first attempt; not on Node
    pause q, drain q …  internal   what operators do

An attempt has one span, and not another for its settling as on Node: here a turn settles many, and belongs to none of
them. What becomes of it is an event of its span. The counters follow what the server has settled; the durations are
those of the handlers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from taurine.options import JobTelemetry
from taurine.queue.job import Job
from taurine.queue.turn import Completed, Failed, Outcome, Released, RetryLater, RetryNow, Snoozed, WaitingForChildren
from taurine.telemetry import ContextManager, Counter, Meter, Span, SpanContext, Telemetry

__all__ = ["AttemptSpan", "Operation", "QueueTracing", "WorkerTracing", "queue_tracing"]

ResultT = TypeVar("ResultT")

_MOST_LINKS = 100
"""Links of one span: a list of thousands of jobs would make one that no exporter takes."""

_QUEUE, _OPERATION, _NAME, _ID = (
    "bullmq.queue.name",
    "bullmq.queue.operation",
    "bullmq.job.name",
    "bullmq.job.id",
)

_STATES: dict[type[Outcome], str] = {
    Completed: "completed",
    Failed: "failed",
    RetryNow: "retried",
    RetryLater: "delayed",
    Snoozed: "delayed",
    Released: "waiting",
    WaitingForChildren: "waiting_children",
}
"""What becomes of an attempt, in the words of BullMQ's measures."""


class Operation:
    """One call of a queue, told as a span from the beginning of a `with` block to its end; the active one meanwhile."""

    __slots__ = ("_context", "_used", "carried", "span")

    def __init__(self, span: Span, contexts: ContextManager, parent: SpanContext, *, carries: bool = False) -> None:
        self.span = span
        self._context = span.on_context(parent)
        self._used = contexts.use(self._context)
        self.carried = contexts.inject(self._context) if carries else None
        """What travels with each job that says nothing itself; None for nothing."""

    def __enter__(self) -> Self:
        self._used.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._used.__exit__(None, None, None)
        if error is not None:
            self.span.record_error(error)
        self.span.end()

    def option(self, given: JobTelemetry | None) -> JobTelemetry | None:
        """The `telemetry` of one job that is added, of which the caller has said `given`."""
        if self.carried is None or (given is not None and (given.metadata is not None or given.omit_context)):
            return given
        return JobTelemetry(self.carried)

    def added(self, job: Job) -> None:
        """Told when the server has the job."""
        if self.span.is_recording:
            self.span.set_attributes({_ID: job.id, "taurine.job.duplicate": job.duplicate})


class QueueTracing:
    """Of one queue."""

    def __init__(self, telemetry: Telemetry, queue: str) -> None:
        self._tracer = telemetry.tracer
        self._contexts = telemetry.context_manager
        self._queue = queue
        meter = telemetry.meter
        self._jobs = (
            None
            if meter is None
            else meter.create_gauge(
                "bullmq.queue.jobs", unit="{jobs}", description="Number of jobs in the queue by state"
            )
        )

    def adding(self, name: str, given: JobTelemetry | None) -> Operation:
        """One job is added.

        A context that its caller has given is the parent, whatever is active here, and travels as it is.
        """
        metadata = None if given is None else given.metadata
        parent = self._contexts.active() if metadata is None else self._contexts.extract(metadata)
        span = self._tracer.start_span(f"add {self._queue}.{name}", kind="producer", context=parent)
        if span.is_recording:
            span.set_attributes({_QUEUE: self._queue, _OPERATION: "add", _NAME: name})
        return Operation(span, self._contexts, parent, carries=metadata is None)

    def adding_many(self, names: Sequence[str], given: Sequence[JobTelemetry | None]) -> Operation:
        """A list is added. Where its jobs come from several traces it belongs to none, and is linked to them."""
        told = list(dict.fromkeys(option.metadata for option in given if option is not None and option.metadata))
        links: list[SpanContext] = []
        parent = self._contexts.active()
        if len(told) == 1:
            parent = self._contexts.extract(told[0])
        elif told:
            parent, links = self._contexts.root(), [self._contexts.extract(text) for text in told[:_MOST_LINKS]]
        span = self._tracer.start_span(f"addBulk {self._queue}", kind="producer", context=parent, links=links)
        if span.is_recording:
            span.set_attributes(
                {
                    _QUEUE: self._queue,
                    _OPERATION: "addBulk",
                    "bullmq.job.bulk.count": len(names),
                    "bullmq.job.bulk.names": list(dict.fromkeys(names)),
                }
            )
        return Operation(span, self._contexts, parent, carries=True)

    async def operation(self, name: str, doing: Awaitable[ResultT], **about: str | float | bool) -> ResultT:
        """What `doing` returns, told as what an operator does. about: attributes."""
        parent = self._contexts.active()
        span = self._tracer.start_span(f"{name} {self._queue}", kind="internal", context=parent)
        if span.is_recording:
            span.set_attributes({_QUEUE: self._queue, _OPERATION: name, **about})
        with Operation(span, self._contexts, parent):
            return await doing

    def count_jobs(self, counts: Mapping[Any, int]) -> None:
        """How many jobs the queue has, by their states."""
        if self._jobs is not None:
            for state, count in counts.items():
                self._jobs.record(count, {_QUEUE: self._queue, "bullmq.queue.jobs.state": state})


def queue_tracing(telemetry: Telemetry | None, queue: str) -> QueueTracing | None:
    """None without a telemetry: then nothing is asked or told."""
    return None if telemetry is None else QueueTracing(telemetry, queue)


class WorkerTracing:
    """Of one worker. now: wall seconds."""

    def __init__(
        self, telemetry: Telemetry, *, queue: str, worker: str, worker_id: str, now: Callable[[], float]
    ) -> None:
        self._tracer = telemetry.tracer
        self._contexts = telemetry.context_manager
        self._queue = queue
        self._about = {_QUEUE: queue, _OPERATION: "process", "bullmq.worker.id": worker_id}
        if worker:
            self._about["bullmq.worker.name"] = worker
        self._now = now
        self._measures = None if telemetry.meter is None else _Measures(telemetry.meter, queue)

    def attempt(self, job: Job) -> AttemptSpan:
        """One attempt runs: its span is the active one for all that its handler does."""
        telemetry = job.telemetry
        carried, omitted = (None, False) if telemetry is None else (telemetry.metadata, telemetry.omit_context)
        parent = self._contexts.root() if carried is None or omitted else self._contexts.extract(carried)
        links = () if job.failed_trace is None or omitted else (self._contexts.extract(job.failed_trace),)
        started = self._now()
        span = self._tracer.start_span(
            f"process {self._queue}", kind="consumer", context=parent, links=links, at=started
        )
        if span.is_recording:
            if job.attempts_started == 1:
                self._tell_wait(job, parent, started)
            span.set_attributes(
                {**self._about, _ID: job.id, _NAME: job.name, "taurine.job.attempts_started": job.attempts_started}
            )
        return AttemptSpan(span, self, self._contexts, parent, job=job, started=started)

    def ended(self, job: Job, state: str | None, started: float) -> float:
        """A handler has ended, with its job in this state to be, if it is known; returns when that is."""
        now = self._now()
        if state is not None and self._measures is not None:
            self._measures.took(job.name, state, now - started)
        return now

    def _tell_wait(self, job: Job, parent: SpanContext, until: float) -> None:
        """The job waited for this attempt. Its time was told by another machine's clock, perhaps."""
        since = min(until, job.created_at + job.delay_seconds)
        span = self._tracer.start_span(f"wait {self._queue}", kind="internal", context=parent, at=since)
        span.set_attributes({_QUEUE: self._queue, _OPERATION: "wait", _ID: job.id, _NAME: job.name})
        span.end(at=until)

    def settled(self, attempts: Sequence[tuple[Job | None, Outcome]]) -> None:
        """The server has settled these."""
        if self._measures is not None:
            for job, outcome in attempts:
                if job is not None:
                    self._measures.ended(job.name, _STATES[type(outcome)])


class AttemptSpan:
    """One attempt, told as a span from the beginning of a `with` block to its end; the active one meanwhile.

    state: what becomes of the job, once that is known.
    """

    __slots__ = ("_charged", "_context", "_contexts", "_job", "_span", "_started", "_tracing", "_used", "state")

    def __init__(
        self,
        span: Span,
        tracing: WorkerTracing,
        contexts: ContextManager,
        parent: SpanContext,
        *,
        job: Job,
        started: float,
    ) -> None:
        self._span = span
        self._tracing = tracing
        self._contexts = contexts
        self._context = span.on_context(parent)
        self._used = contexts.use(self._context)
        self._job = job
        self._started = started
        self._charged = 0
        self.state: str | None = None

    def __enter__(self) -> Self:
        self._job.span = self._span
        self._used.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._used.__exit__(None, None, None)
        self._job.span = None
        span = self._span
        ended = self._tracing.ended(self._job, self.state, self._started)
        if span.is_recording:
            if error is not None:
                span.record_error(error)
            span.set_attributes({"bullmq.job.attempts.made": self._job.attempts_made + self._charged})
        span.end(at=ended)

    def came_to(self, outcome: Outcome, value: Any) -> Outcome:
        """What the handler came to, with `value` its result or its error; returns it as it is to be settled."""
        state = self.state = _STATES[type(outcome)]
        self._charged = int(not isinstance(outcome, Snoozed | Released | WaitingForChildren))
        span = self._span
        if not span.is_recording:
            return outcome
        if isinstance(outcome, Failed | RetryNow | RetryLater):
            span.add_event("job failed", {"bullmq.job.failed.reason": outcome.reason, "bullmq.job.state": state})
            if isinstance(value, BaseException):
                span.record_error(value)
            return replace(outcome, trace=self._contexts.inject(self._context) or "")
        span.add_event("job completed" if state == "completed" else f"job {state}", {"bullmq.job.state": state})
        return outcome


class _Measures:
    """BullMQ's counters, and its histogram."""

    _COUNTERS = (
        ("completed", "bullmq.jobs.completed", "Number of jobs completed"),
        ("failed", "bullmq.jobs.failed", "Number of jobs failed"),
        ("delayed", "bullmq.jobs.delayed", "Number of jobs delayed"),
        ("retried", "bullmq.jobs.retried", "Number of jobs retried"),
        ("waiting", "bullmq.jobs.waiting", "Number of jobs put back in line"),
        ("waiting_children", "bullmq.jobs.waiting_children", "Number of jobs that wait for their children"),
    )

    def __init__(self, meter: Meter, queue: str) -> None:
        self._queue = queue
        self._counters: dict[str, Counter] = {
            state: meter.create_counter(name, unit="1", description=description)
            for state, name, description in self._COUNTERS
        }
        self._durations = meter.create_histogram(
            "bullmq.job.duration", unit="ms", description="Job processing duration"
        )

    def ended(self, name: str, state: str) -> None:
        self._counters[state].add(1, self._about(name, state))

    def took(self, name: str, state: str, seconds: float) -> None:
        self._durations.record(seconds * 1000, self._about(name, state))

    def _about(self, name: str, state: str) -> dict[str, str]:
        return {_QUEUE: self._queue, _NAME: name, "bullmq.job.state": state}
