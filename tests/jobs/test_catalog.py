"""The catalog: closed, typed, and declared without a server (SEED-050, 052, 057, 077 to 083, 107, 201, 270, 280,
CON-08, CON-22).
"""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Protocol
from uuid import UUID

import pytest
from pydantic import BaseModel

from support.desk import Ticket, Triage, declare_triage, recorded, ticket
from taurine import Context, Taurine
from taurine.errors import (
    AlreadyDeclared,
    CatalogError,
    HandlerMissing,
    InvalidName,
    InvalidOption,
    PayloadInvalid,
    TaurineWarning,
    UnknownJobType,
)


class Invite(BaseModel):
    user: UUID


# Names ----------------------------------------------------------------------------------------------------------------------


async def test_a_name_that_is_not_declared_is_refused_with_the_near_miss(app: Taurine) -> None:
    """SEED-050, SEED-077, SEED-270: neither enqueued nor taken for success."""
    declare_triage(app)
    with pytest.raises(UnknownJobType, match=r"'ticket.triag'.*did you mean 'ticket.triage'"):
        await app.enqueue("ticket.triag", ticket())
    assert await recorded(app) == []


async def test_enqueue_by_name(app: Taurine) -> None:
    """SEED-077: one entry for all types, for callers that have a name and a dict."""
    declare_triage(app)
    handle = await app.enqueue("ticket.triage", ticket().model_dump(), priority=5)
    assert handle.id == "ticket-triage:acme:7"
    with pytest.raises(PayloadInvalid):
        await app.enqueue("ticket.triage", {"ticket_id": "8"})


def test_a_name_is_declared_once(app: Taurine) -> None:
    declare_triage(app)
    with pytest.raises(AlreadyDeclared, match=r"'ticket\.triage' is declared already"):
        declare_triage(app)


async def test_a_type_of_another_application_is_refused(app: Taurine, app_factory: Callable[..., Taurine]) -> None:
    other = declare_triage(app_factory("other"))
    with pytest.raises(UnknownJobType, match="another application"):
        await app.enqueue(other, ticket())


def test_the_catalog_lists_what_is_declared(app: Taurine) -> None:
    """SEED-050, SEED-080, SEED-081: dotted names, a payload for each."""
    declare_triage(app)
    app.declare("email.sendInvite", Invite, queue="email")
    assert [(one.name, one.queue) for one in app.catalog] == [
        ("ticket.triage", "ticket-triage"),
        ("email.sendInvite", "email"),
    ]
    assert len(app.catalog) == 2


@pytest.mark.parametrize("name", ["process", "handle", "job1", "Task-2", "send", "generate", "run"])
def test_a_vague_name_is_warned_of(app: Taurine, name: str) -> None:
    """SEED-172, CON-22: accepted, and the warning points at the line that declares it."""
    with pytest.warns(TaurineWarning, match="does not say what the job does") as warned:
        app.declare(name, Ticket)
    assert warned[0].filename == __file__
    with pytest.warns(TaurineWarning) as warned:
        app.job(f"{name}2" if not name[-1].isdigit() else "work")(_triage)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("name", ["send-welcome-email", "email.sendInvite", "triage", "process-refund", "job.archive"])
def test_a_name_that_says_something_is_not(app: Taurine, name: str) -> None:
    assert app.declare(name, Ticket).name == name  # a warning would be an error here


@pytest.mark.parametrize("name", ["", "a\nb", None, 5])
def test_a_name_that_cannot_be_shown_is_refused(app: Taurine, name: Any) -> None:
    with pytest.raises(InvalidOption):
        app.declare(name, Ticket)


# Topologies -----------------------------------------------------------------------------------------------------------------


def test_one_queue_for_all_types(app_factory: Callable[..., Taurine]) -> None:
    """CON-08, SEED-107."""
    app = app_factory(default_queue="jobs")
    for name in ("email.sendInvite", "email.sendPasswordReset"):
        app.declare(name, Invite)
    assert app.catalog.queues == ["jobs"]
    assert [one.name for one in app.catalog.on_queue("jobs")] == ["email.sendInvite", "email.sendPasswordReset"]


def test_a_queue_for_each_type(app: Taurine) -> None:
    """CON-08, SEED-051, SEED-057: adding one is a name, a payload and a handler."""
    queues = [
        "emails",
        "webhooks-outgoing",
        "billing-webhooks-retry",
        "account-deletions",
        "data-exports",
        "usage-rollover",
    ]
    for queue in queues:
        app.declare(f"{queue}.work", Invite, queue=queue)
    assert app.catalog.queues == queues


def test_a_queue_name_that_cannot_be_is_refused_where_it_is_declared(app: Taurine) -> None:
    with pytest.raises(InvalidName, match="without ':'"):
        app.declare("email.sendInvite", Invite, queue="email:high")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ques": "a"}, "did you mean 'queue'"),
        ({"priority": -1}, "priority"),
        ({"priority": 1 << 22}, "priority"),
        ({"retry": 3}, r"expected retry to be a Retry, got int; write Retry\(attempts=3\)"),
        ({"retry": True}, "expected retry to be a Retry, got bool$"),
        ({"runs_in": "threads"}, "did you mean 'thread'"),
        ({"timeout": 0}, "timeout"),
        ({"expires_in": -1}, "expires_in"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"keep_keys": 0}, "keep_keys"),
        ({"keep_failed": "7 days"}, "keep_failed"),
        ({"keep_completed": -1}, "keep_completed"),
    ],
)
def test_a_wrong_option_is_an_error_at_import(app: Taurine, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        app.declare("ticket.triage", Ticket, **options)
    assert len(app.catalog) == 0


@pytest.mark.parametrize("option", ["job_id", "tenant"])
def test_a_template_with_a_misspelt_field_is_an_error_at_import(app: Taurine, option: str) -> None:
    options: dict[str, Any] = {option: "x:{tenantid}"}
    with pytest.raises(CatalogError, match="did you mean 'tenant_id'"):
        app.declare("ticket.triage", Ticket, **options)


# Handlers -------------------------------------------------------------------------------------------------------------------


async def _triage(payload: Ticket, ctx: Context) -> Triage:
    return Triage(category=f"{payload.ticket_id}{ctx}", priority=1)


def test_a_handler_says_what_its_payload_and_result_are(app: Taurine) -> None:
    triage = app.job("ticket.triage")(_triage)
    assert (triage.payload.annotation, triage.result.annotation) == (Ticket, Triage)
    assert triage.has_handler


def test_models_declared_in_a_function(app: Taurine) -> None:
    """Their names are known only where the handler is defined; this module's annotations are texts."""

    class Local(BaseModel):
        x: int

    @app.job("local.use")
    async def use(payload: Local) -> Local:
        return payload

    assert use.payload.annotation is Local
    assert use.result.annotation is Local


class _Callable:
    async def __call__(self, payload: Invite, ctx: Context) -> None: ...


class _Service:
    def invite(self, payload: Invite) -> int:
        return 1


async def _with_prefix(prefix: str, payload: Invite) -> str:
    return prefix


def _plain(payload: Invite): ...  # a result that is not declared may be anything


async def _optional_context(payload: Invite, ctx: Context | None = None, *, dry: bool = False) -> None: ...


class _Hears(Protocol):
    cancelled: bool


class _OwnContext(Context): ...


async def _subclass(payload: Invite, ctx: _OwnContext) -> None: ...


async def _protocol(payload: Invite, ctx: _Hears) -> None: ...


async def _anything(payload: Invite, ctx: Any) -> None: ...


async def _unannotated(payload: Invite, ctx) -> None: ...  # pyright: ignore[reportMissingParameterType, reportUnknownParameterType]


async def _object(payload: Invite, ctx: object) -> None: ...


async def _described(payload: Invite, ctx: Annotated[Context, "the attempt"]) -> None: ...


async def _type_checkers_only(payload: Invite, ctx: Unimported) -> None: ...  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]


@pytest.mark.parametrize(
    ("handler", "result"),
    [
        (_Callable(), None),
        (_Service().invite, int),
        (partial(_with_prefix, "a"), str),
        (_plain, Any),
        (_optional_context, None),
        (_subclass, None),
        (_protocol, None),
        (_anything, None),
        (_unannotated, None),
        (_object, None),
        (_described, None),
        (_type_checkers_only, None),
    ],
    ids=[
        *("object", "method", "partial", "plain", "optional context", "subclass", "protocol", "Any", "unannotated"),
        *("any object", "described", "type checkers only"),
    ],
)
def test_forms_of_handlers(app: Taurine, handler: Any, result: Any) -> None:
    invite = app.job("email.sendInvite")(handler)
    assert invite.payload.annotation is Invite
    assert invite.result.annotation == result


def _untyped(payload): ...


def _three(payload: Invite, ctx: Context, more: int) -> None: ...


def _keyword(payload: Invite, *, more: int) -> None: ...


def _second_is_no_context(payload: Invite, retries: int = 3) -> None: ...


async def _two_numbers(a: int, b: int) -> int:
    return a + b


def _second_is_a_list(payload: Invite, others: list[Invite]) -> None: ...


def _second_may_be_none(payload: Invite, more: int | None = None) -> None: ...


async def _generator(payload: Invite):
    yield 1


def _unknown_payload(payload: Unimported) -> None: ...  # type: ignore[name-defined] # noqa: F821 # pyright: ignore[reportUndefinedVariable]


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (_untyped, "say what type its payload 'payload' is"),
        (_three, "take a payload"),
        (_keyword, "needs the keyword 'more', which nobody gives it"),
        (_two_numbers, "is given the Context, and 'b' is said to be int; a handler takes one payload"),
        (_second_is_a_list, "is given the Context, and 'others' is said to be list"),
        (_second_may_be_none, r"is given the Context, and 'more' is said to be int \| None"),
        (_second_is_no_context, "'retries' has a default"),
        (_generator, "is a generator"),
        (Invite, "to be a function"),
        ("email", "to be a function"),
        (_unknown_payload, "not under TYPE_CHECKING"),
    ],
)
def test_what_cannot_be_a_handler_is_an_error_at_import(app: Taurine, handler: Any, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        app.job("email.sendInvite")(handler)
    assert len(app.catalog) == 0


def test_a_second_payload_that_is_declared_in_a_function_is_seen(app: Taurine) -> None:
    class Local(BaseModel): ...

    def both(payload: Invite, local: Local) -> None: ...

    handler: Any = both  # which a type checker refuses too
    with pytest.raises(CatalogError, match="'local' is said to be Local"):
        app.job("email.sendInvite")(handler)


def _top_level(payload: Invite) -> None: ...


async def _top_level_async(payload: Invite) -> None: ...


@pytest.mark.parametrize(
    ("handler", "runs_in", "message"),
    [
        (
            _top_level,
            "threads",
            "expected runs_in to be one of loop, thread, process, got 'threads'; did you mean 'thread'",
        ),
        (_top_level, "loop", "_top_level is a plain function and would block the event loop; use runs_in='thread'"),
        (_top_level_async, "thread", "_top_level_async is async and a thread has no event loop; use runs_in='loop'"),
        (
            lambda payload: None,
            "process",
            "it is a lambda, which another process cannot import; .* use runs_in='thread'",
        ),
        (_Callable(), "process", "it has no name to be found by"),
    ],
    ids=["misspelt", "plain on the loop", "async in a thread", "lambda", "object"],
)
def test_a_handler_that_cannot_run_there_is_an_error_where_it_is_attached(
    app: Taurine, handler: Any, runs_in: Any, message: str
) -> None:
    """Not at the start of the first worker."""
    with pytest.raises(InvalidOption, match=message):
        app.declare("email.sendInvite", Invite, runs_in=runs_in).handler(handler)
    if inspect.isfunction(handler) and handler.__name__ != "<lambda>":
        with pytest.raises(InvalidOption, match=message):
            app.job("email.remind", runs_in=runs_in)(handler)
        assert app.catalog.find("email.remind") is None


def test_a_function_inside_a_function_cannot_run_in_a_process(app: Taurine) -> None:
    def inner(payload: Invite) -> None: ...

    declared = app.declare("email.sendInvite", Invite, runs_in="process")
    with pytest.raises(InvalidOption, match="it is defined inside a function"):
        declared.handler(inner)
    assert not declared.has_handler
    assert declared.handler(_top_level).runs_in == "process"


async def test_declare_and_handler(app: Taurine) -> None:
    """An API process declares; the worker's process attaches the function."""
    triage = declare_triage(app)
    with pytest.raises(HandlerMissing, match="import the module"):
        _ = triage.function
    assert triage.handler(_triage) is triage
    assert (await triage(ticket(), "!")).category == "7!"
    with pytest.raises(AlreadyDeclared, match="_triage"):
        triage.handler(_triage)


def test_a_handler_of_another_payload_is_refused(app: Taurine) -> None:
    async def invite(payload: Invite) -> Triage: ...

    with pytest.raises(CatalogError, match="takes Invite, and the payload is declared as Ticket"):
        declare_triage(app).handler(invite)  # pyright: ignore[reportArgumentType] - what is tested


def test_a_handler_of_a_wider_payload_is_not(app: Taurine) -> None:
    async def take(payload: BaseModel) -> Triage: ...

    assert declare_triage(app).handler(take).has_handler


async def test_a_wrong_payload_is_refused_by_the_types_fields(app: Taurine) -> None:
    """SEED-052, SEED-082: what the type checker would have said, at run time."""
    invite = app.declare("email.sendInvite", Invite)
    payload: Any = ticket()
    with pytest.raises(PayloadInvalid, match=r"email\.sendInvite"):
        await invite.enqueue(payload)
    payload = {"user": "no-uuid"}
    with pytest.raises(PayloadInvalid, match="user"):
        await invite.enqueue(payload)


# Import and start -----------------------------------------------------------------------------------------------------------


def test_import_and_start_need_no_server_and_leave_nothing(tmp_path: Path) -> None:
    """SEED-105, SEED-106, SEED-280: no file, no thread, no socket before the first enqueue, though neither server is
    there.
    """
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
        from pydantic import BaseModel
        from taurine import Taurine

        class Order(BaseModel):
            id: str

        app = Taurine("shop", redis_url="redis://127.0.0.1:1", database_url="postgresql://nobody@127.0.0.1:1/none")

        @app.job("order.ship", job_id="order:{id}")
        async def ship(order: Order) -> None: ...
        """)
    )
    script = """
        import os, socket, sys, threading
        socket.socket.connect = lambda *_: sys.exit("it connects")
        before = set(os.listdir())
        import shop
        assert threading.active_count() == 1, threading.enumerate()
        assert set(os.listdir()) - before <= {"__pycache__"}, os.listdir()
        print(len(shop.app.catalog))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join([str(tmp_path), *sys.path]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_the_queues_alone_load_no_database_and_no_models() -> None:
    """`import taurine.queue` is what a small worker of plain queues pays for."""
    script = "import sys, taurine.queue; print(sorted({'pydantic', 'sqlalchemy', 'alembic', 'taurine.app'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_public_names_are_there_and_sorted() -> None:
    import taurine

    assert taurine.__all__ == sorted(
        taurine.__all__, key=lambda name: (name.islower() or name.startswith("_"), not name.isupper(), name)
    )
    for name in taurine.__all__:
        assert getattr(taurine, name) is not None
    assert dir(taurine) == sorted(taurine.__all__)
    for module, names in taurine._MODULES.items():
        assert set(names) <= set(taurine.__all__)
        for name in names:
            assert name in sys.modules[module].__all__, f"{module} does not call {name} public"
    with pytest.raises(AttributeError, match="Taurin"):
        _ = taurine.Taurin  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue]


def test_two_applications_share_nothing(app_factory: Callable[..., Taurine]) -> None:
    one, other = app_factory("one"), app_factory("other")
    declare_triage(one)
    declare_triage(other)
    assert len(one.catalog) == len(other.catalog) == 1
