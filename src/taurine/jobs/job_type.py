"""A job type: the name, payload, result and rules that its producers and its workers share."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, Unpack, overload

from taurine.errors import AlreadyDeclared, CatalogError, HandlerMissing, InvalidOption, TenantMismatch
from taurine.jobs.declaring import JobOptions
from taurine.jobs.executors.choosing import ExecutorKind, executor_for
from taurine.jobs.identity import Identity
from taurine.jobs.payloads import Codec
from taurine.jobs.requests import EnqueueOptions
from taurine.jobs.templates import Template
from taurine.options import to_seconds

if TYPE_CHECKING:
    from taurine.jobs.context import Context
    from taurine.jobs.handle import JobHandle

__all__ = ["JobDecorator", "JobType", "Producer", "annotations_of"]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")


class Producer(Protocol):
    """What a job type asks of the application that it belongs to: the port through which domain code enqueues."""

    async def enqueue(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]: ...

    async def enqueue_many(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]: ...

    def enqueue_sync(
        self, job_type: JobType[PayloadT, ResultT], payload: PayloadT, options: EnqueueOptions
    ) -> JobHandle[ResultT]: ...

    def enqueue_many_sync(
        self, job_type: JobType[PayloadT, ResultT], payloads: Sequence[PayloadT], options: EnqueueOptions
    ) -> list[JobHandle[ResultT]]: ...


class JobType(Generic[PayloadT, ResultT]):
    """One entry of the catalog. Made by `Taurine.job` and `Taurine.declare`.

    Called like the function that it decorates, it runs the handler right here, without a queue or record: for tests and for reuse.
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
        if not name or not name.isprintable():
            raise InvalidOption(f"expected a job type's name to be printable text, got {name!r:.80}")
        self.name = name
        self.options = options
        self.payload: Codec[PayloadT] = Codec(payload, job_type=name, what="the payload", max_bytes=options.max_bytes)
        self.result: Codec[ResultT] = Codec(result, job_type=name, what="the result", max_bytes=options.max_bytes)
        self.identity = Identity(options.job_id, job_type=name, fields=self.payload.fields)
        self._tenant = None if options.tenant is None else Template(options.tenant, of=name, fields=self.payload.fields)
        self.timeout = None if options.timeout is None else to_seconds(options.timeout, "timeout")
        self._producer = producer
        self._handler = handler
        self._runs_in: ExecutorKind | None = None

    def __repr__(self) -> str:
        return f"JobType({self.name!r}, queue={self.queue!r})"

    @property
    def queue(self) -> str:
        """The queue that its jobs go to."""
        return self.options.queue

    @property
    def has_handler(self) -> bool:
        return self._handler is not None

    @property
    def function(self) -> Callable[..., Any]:
        """The function that was declared as its handler. Raises HandlerMissing."""
        if self._handler is None:
            raise HandlerMissing(
                f"the job type {self.name!r} has no handler in this process; import the module that has `@….handler` for it"
            )
        return self._handler

    @property
    def runs_in(self) -> ExecutorKind:
        """Where its handler runs. Raises HandlerMissing, and InvalidOption for a handler that cannot run there."""
        if self._runs_in is None:
            self._runs_in = executor_for(self.function, self.options.runs_in)
        return self._runs_in

    def handler(self, function: Callable[..., Any]) -> JobType[PayloadT, ResultT]:
        """Decorator: the function that runs jobs of a type that was only declared. Raises AlreadyDeclared for a second one."""
        if self._handler is not None:
            raise AlreadyDeclared(f"the job type {self.name!r} has a handler already, {self._handler.__qualname__}")
        check_handler(function, self.name)
        self._handler = function
        return self

    def __call__(self, payload: PayloadT, *context: Any) -> Any:
        """Run the handler itself: no queue, no record, no retry."""
        return self.function(payload, *context)

    def tenant_of(self, payload: PayloadT, given: str | None = None) -> str | None:
        """Whose job this is. Raises TenantMismatch when `given` is not the tenant that the payload names."""
        if self._tenant is None:
            return given
        named = self._tenant.render(payload)
        if given is not None and given != named:
            raise TenantMismatch(f"{self.name}: the payload belongs to another tenant than {given!r}")
        return named

    async def enqueue(self, payload: PayloadT, **options: Unpack[EnqueueOptions]) -> JobHandle[ResultT]:
        """Accept a job: check it, record it in SQL, and hand it to the queue. options: see EnqueueOptions.

        When this returns the record is committed (with `session`: will be, together with the session). A server of queues that is down does not make
        it fail or wait for long: the job is delivered when the server is back. A job id that is taken gives that job, with `duplicate` set.

        Concurrent calls share commits. Repeating a call that raised LedgerUnavailable is safe for a type with a job id, or with an idempotency key.

        Raises NotAuthorized, PayloadInvalid, PayloadError, PayloadTooLarge, TenantMismatch, InvalidOption, DuplicateJob, IdempotencyConflict,
        LedgerUnavailable, LedgerRefused, SchemaMismatch.
        """
        return await self._producer.enqueue(self, payload, options)

    async def enqueue_many(
        self, payloads: Iterable[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]:
        """Accept many jobs with the same options. All are checked before any is recorded; then up to 1,000 are recorded whole or not at all.

        Raises as `enqueue` does, and InvalidOption for a `job_id` or `idempotency_key`, which can be of one job only.
        """
        return await self._producer.enqueue_many(self, list(payloads), options)

    def enqueue_sync(self, payload: PayloadT, **options: Unpack[EnqueueOptions]) -> JobHandle[ResultT]:
        """`enqueue` for code without an event loop. Raises InvalidOption when called from one, which it would block."""
        return self._producer.enqueue_sync(self, payload, options)

    def enqueue_many_sync(
        self, payloads: Iterable[PayloadT], **options: Unpack[EnqueueOptions]
    ) -> list[JobHandle[ResultT]]:
        """`enqueue_many` for code without an event loop."""
        return self._producer.enqueue_many_sync(self, list(payloads), options)


class JobDecorator(Protocol):
    """What `Taurine.job(name, …)` returns: give it the handler."""

    @overload
    def __call__(self, function: Callable[[PayloadT, Context], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT, Context], ResultT]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], Awaitable[ResultT]]) -> JobType[PayloadT, ResultT]: ...
    @overload
    def __call__(self, function: Callable[[PayloadT], ResultT]) -> JobType[PayloadT, ResultT]: ...


def check_handler(function: Callable[..., Any], name: str) -> None:
    """Raise CatalogError for what cannot be a handler."""
    if not callable(function) or inspect.isclass(function):
        raise CatalogError(f"{name}: expected the handler to be a function of a payload, got {function!r:.80}")
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    required = sum(parameter.default is parameter.empty for parameter in positional)
    if not positional or required > 2:
        raise CatalogError(
            f"{name}: expected the handler {function.__qualname__} to take a payload and, if it likes, a Context; it takes {required}"
        )


def annotations_of(
    function: Callable[..., Any], name: str, local_names: Mapping[str, Any] | None = None
) -> tuple[Any, Any]:
    """The payload's and the result's type, as the function declares them. Raises CatalogError for a payload without one.

    local_names: what is known where the function is defined, beside its module's own names.
    """
    check_handler(function, name)
    declared = inspect.get_annotations(inspect.unwrap(function))
    first = next(iter(inspect.signature(function).parameters))
    if first not in declared:
        raise CatalogError(
            f"{name}: expected the handler {function.__qualname__} to say what type its payload {first!r} is"
        )
    names = {**getattr(inspect.unwrap(function), "__globals__", {}), **(local_names or {})}
    return _evaluated(declared[first], names, function, name), _evaluated(
        declared.get("return", Any), names, function, name
    )


def _evaluated(annotation: Any, names: dict[str, Any], function: Callable[..., Any], name: str) -> Any:
    """An annotation as a type: under `from __future__ import annotations` it is the text of one, of the program itself."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, names)  # noqa: S307 - the program's own source, as typing.get_type_hints evaluates it
    except Exception as error:
        raise CatalogError(
            f"{name}: the annotation {annotation!r} of {function.__qualname__} cannot be read ({error}); the types of payloads and results must "
            "be imported at run time, not under TYPE_CHECKING"
        ) from error
