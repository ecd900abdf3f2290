"""A job type: the name, payload, result and rules that its producers and its workers share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar, Unpack, overload

from taurine.errors import AlreadyDeclared, HandlerMissing, InvalidOption, TenantMismatch
from taurine.jobs.catalog.declaring import JobOptions
from taurine.jobs.catalog.identity import Identity
from taurine.jobs.catalog.payloads import Codec
from taurine.jobs.catalog.requests import EnqueueOptions
from taurine.jobs.catalog.signatures import check_same_payload, name_of, takes_payload
from taurine.jobs.catalog.templates import Template
from taurine.jobs.catalog.without_payload import NoPayload, given_context_alone, takes_nothing
from taurine.jobs.executors.choosing import ExecutorKind, executor_for
from taurine.jobs.executors.located import check_named
from taurine.options import to_seconds

if TYPE_CHECKING:
    from taurine.jobs.enqueue.handle import JobHandle
    from taurine.jobs.handler.context import Context

__all__ = ["CronDecorator", "JobDecorator", "JobType", "Producer"]

_NOT_GIVEN: Final = object()

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

HandlerOf: TypeAlias = (
    Callable[[PayloadT, "Context"], Awaitable[ResultT]]
    | Callable[[PayloadT], Awaitable[ResultT]]
    | Callable[[PayloadT, "Context"], ResultT]
    | Callable[[PayloadT], ResultT]
)
"""A handler of one payload and one result: async or not, with the context or without it."""


class Producer(Protocol):
    """What a job type asks of the application that it belongs to: the port through which domain code enqueues."""

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]: ...

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]: ...

    def enqueue_sync(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, **options: Unpack[EnqueueOptions]
    ) -> JobHandle[ResultT]: ...

    def enqueue_many_sync(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]: ...


class JobType(Generic[PayloadT, ResultT]):
    """One entry of the catalog. Made by `Taurine.job` and `Taurine.declare`.

    Called like the function that it decorates, it runs the handler right here, without a queue or record: for tests and
    for reuse.
    """

    def __init__(
        self,
        name: str,
        *,
        payload: Any,
        result: Any,
        options: JobOptions,
        producer: Producer,
        handler: Callable[..., Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not name or not name.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected a job type's name to be printable text, got {name!r:.80}")
        self.name = name
        self.options = options
        self.payload: Codec[PayloadT] = Codec(payload, job_type=name, what="the payload", max_bytes=options.max_bytes)
        self.result: Codec[ResultT] = Codec(result, job_type=name, what="the result", max_bytes=options.max_bytes)
        self.identity = Identity(options.job_id, job_type=name, fields=self.payload.fields)
        self._tenant = None if options.tenant is None else Template(options.tenant, of=name, fields=self.payload.fields)
        self.timeout = None if options.timeout is None else to_seconds(options.timeout, "timeout")
        self._producer = producer
        self._handler: Callable[..., Any] | None = None
        self._written: Callable[..., Any] | None = None
        self._runs_in: ExecutorKind | None = None
        if handler is not None:
            self._attach(handler)

    def __repr__(self) -> str:
        return f"JobType({self.name!r}, queue={self.queue!r})"

    @property
    def queue(self) -> str:
        """The queue that its jobs go to."""
        return self.options.queue

    @property
    def producer(self) -> Producer:
        """The application that it belongs to."""
        return self._producer

    @property
    def has_handler(self) -> bool:
        return self._handler is not None

    @property
    def function(self) -> Callable[..., Any]:
        """The function that was declared as its handler. Raises HandlerMissing."""
        if self._handler is None:
            raise self._no_handler()
        return self._handler

    def _no_handler(self) -> HandlerMissing:
        return HandlerMissing(
            f"the job type {self.name!r} has no handler in this process; import the module that has `@….handler` for it"
        )

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The handler, named as functools.wraps does: so a process of its own finds the function behind this object."""
        if self._handler is None:
            raise AttributeError(f"the job type {self.name!r} has no handler in this process")
        return self._handler

    @property
    def runs_in(self) -> ExecutorKind:
        """Where its handler runs. Raises HandlerMissing."""
        if self._runs_in is None:
            raise self._no_handler()
        return self._runs_in

    def handler(self, function: HandlerOf[PayloadT, ResultT]) -> JobType[PayloadT, ResultT]:
        """Decorator: the function that runs jobs of a type that was only declared.

        Raises AlreadyDeclared for a second one, CatalogError for a function that cannot take its payload, and
        InvalidOption for one that cannot run where `runs_in` says.
        """
        if self._handler is not None:
            raise AlreadyDeclared(f"the job type {self.name!r} has a handler already, {name_of(self._handler)}")
        check_same_payload(function, self.name, self.payload.annotation)
        self._attach(function)
        return self

    def _attach(self, function: Callable[..., Any]) -> None:
        runs_in = executor_for(function, self.options.runs_in)
        called = function
        if runs_in == "process":
            check_named(function)  # whether it is really there can be seen when its module is complete
        elif self.payload.annotation is NoPayload and not takes_payload(function):
            called = given_context_alone(function)  # over there it is the process that does this
        self._written, self._handler, self._runs_in = function, called, runs_in

    @overload
    def __call__(self: JobType[NoPayload, ResultT], *context: Any) -> Any: ...
    @overload
    def __call__(self, payload: PayloadT, *context: Any) -> Any: ...
    def __call__(self, payload: Any = _NOT_GIVEN, *context: Any) -> Any:
        """Run the handler itself: no queue, no record, no retry."""
        if self._written is None:
            raise self._no_handler()
        if isinstance(payload, NoPayload) and not takes_payload(self._written):
            return self._written(*(() if takes_nothing(self._written) else context))
        return self._written(*(() if payload is _NOT_GIVEN else (payload,)), *context)

    def tenant_of(self, payload: PayloadT, given: str | None = None) -> str | None:
        """Whose job this is. Raises TenantMismatch when `given` is not the tenant that the payload names."""
        if self._tenant is None:
            return given
        named = self._tenant.render(payload)
        if given is not None and given != named:
            raise TenantMismatch(f"{self.name}: the payload belongs to another tenant than {given!r}")
        return named

    def tenant_claimed(self, payload: object) -> str | None:
        """The tenant that an unchecked payload seems to name, None where that cannot be seen."""
        try:
            return None if self._tenant is None else self._tenant.render(payload)
        except (InvalidOption, ValueError, TypeError):
            return None

    async def enqueue(self, payload: PayloadT, **options: Unpack[EnqueueOptions]) -> JobHandle[ResultT]:
        """Accept a job: ask who may, check it, record it in SQL, and hand it to the queue. options: see EnqueueOptions.

        When this returns the record is committed (with `session`: will be, together with the session). A server of
        queues that is down does not make it fail or wait for long: the job is delivered when the server is back. A job
        id that is taken gives that job, with `duplicate` set; with `on_duplicate="rerun"` one that has ended runs
        again, with `rerun` set.

        Concurrent calls share commits. Repeating a call that raised LedgerUnavailable is safe for a type with a job id,
        or with an idempotency key.

        Raises NotAuthorized, PayloadInvalid, PayloadError, PayloadTooLarge, TenantMismatch (also for an id that another
        tenant's job has), InvalidOption, InvalidName for an id that no job can have, given or made from the payload,
        DuplicateJob (also for an id that a job of another type has), IdempotencyConflict, QuotaExceeded (see
        `Taurine.set_quota`; a later try may succeed), LedgerUnavailable, LedgerRefused, SchemaMismatch.
        """
        return await self._producer.enqueue(self, payload, **options)

    async def enqueue_many(
        self, payloads: Iterable[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]:
        """Accept many jobs with the same options.

        All are checked before any is recorded; then each 1,000 are recorded whole or not at all, in order.

        Raises as `enqueue` does, and InvalidOption for a `job_id` or `idempotency_key`, which can be of one job only.
        After an error of one job what was recorded are the thousands before its own; in a `session`, nothing.
        """
        return await self._producer.enqueue_many(self, list(payloads), **options)

    def enqueue_sync(self, payload: PayloadT, **options: Unpack[EnqueueOptions]) -> JobHandle[ResultT]:
        """`enqueue` for code without an event loop, from any thread.

        Raises InvalidOption when called from a loop, which it would block.
        """
        return self._producer.enqueue_sync(self, payload, **options)

    def enqueue_many_sync(
        self, payloads: Iterable[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]:
        """`enqueue_many` for code without an event loop, from any thread."""
        return self._producer.enqueue_many_sync(self, list(payloads), **options)


class JobDecorator(Protocol):
    """What `Taurine.job(name, …)` returns: give it the handler.

    One of the context alone is a type of NoPayload, which is not said here: a handler whose payload is `Any` would be
    taken for one.
    """

    @overload
    def __call__(self, function: Callable[[PayloadT, Context], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT, Context], ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[ResultT]]) -> JobType[NoPayload, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[], ResultT]) -> JobType[NoPayload, ResultT]: ...


class CronDecorator(Protocol):
    """What `Taurine.cron(pattern, …)` returns: give it the handler, or a job type."""

    @overload
    def __call__(self, function: JobType[PayloadT, ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT, Context], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT, Context], ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[Context], Awaitable[ResultT]]) -> JobType[NoPayload, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[Context], ResultT]) -> JobType[NoPayload, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[], Awaitable[ResultT]]) -> JobType[NoPayload, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[], ResultT]) -> JobType[NoPayload, ResultT]: ...
