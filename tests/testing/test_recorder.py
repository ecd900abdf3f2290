"""What was enqueued, recorded in place of carried out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import BaseModel, Field
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from taurine import (
    AccessRequest,
    Context,
    DuplicateJob,
    Fixed,
    IdempotencyConflict,
    InvalidOption,
    JobCancelled,
    JobFailed,
    NotAuthorized,
    OncePer,
    PayloadInvalid,
    RecordNotFound,
    Retry,
    Snooze,
    Taurine,
    TenantMismatch,
    TransitionRefused,
    UnknownJobType,
    WaitTimeout,
)
from taurine.jobs.catalog.job_type import JobType
from taurine.testing import Recorder, TestClock


class Invite(BaseModel):
    tenant_id: str = "acme"
    user_id: str
    address: str = Field(default="a@example.com", min_length=3)


@pytest.fixture
def app(tmp_path: Path) -> Taurine:
    """One that cannot reach a server, in a folder that does not exist."""
    return Taurine("shop", home=tmp_path / "home", redis_url="redis://127.0.0.1:1/0")


@pytest.fixture
def send(app: Taurine) -> JobType[Invite, str]:
    @app.job("email.sendInvite", queue="mail", job_id="invite:{user_id}", tenant="{tenant_id}")
    async def send_invite(invite: Invite) -> str:
        return f"m-{invite.user_id}"

    return send_invite


async def test_callers_are_tested_without_servers(app: Taurine, send: JobType[Invite, str], tmp_path: Path) -> None:
    """SEED-074, SEED-080, PEER-24: a scheduler that records is shipped; dots are accepted in names."""
    with Recorder(app) as recorder:
        async with app:
            handle = await send.enqueue(
                Invite(user_id="ada"), delay=timedelta(hours=24), tags=["spring"], user="op", metadata={"ticket": 7}
            )
        assert (handle.id, handle.status, handle.duplicate) == ("invite:ada", "queued", False)

    job = recorder.assert_enqueued(send, user_id="ada", delay=86_400, tags=["spring"], user="op")
    assert recorder.assert_enqueued("email.sendInvite", times=1, metadata={"ticket": 7}, source="shop") is job
    assert (job.payload, job.queue, job.tenant, job.max_attempts) == (Invite(user_id="ada"), "mail", "acme", 3)
    assert recorder.jobs == recorder.of("email.sendInvite") == [job]
    assert not (tmp_path / "home").exists(), "nothing was written"
    assert not app.loops, "nothing was opened"


def test_code_without_a_loop(app: Taurine, send: JobType[Invite, str], tmp_path: Path) -> None:
    """SEED-074: the sync forms are recorded likewise."""
    with Recorder(app) as recorder:
        send.enqueue_sync(Invite(user_id="ada"))
        handles = send.enqueue_many_sync([Invite(user_id="grace"), Invite(user_id="ada")])
        assert handles[0].record_sync().payload["user_id"] == "grace"
        record = app.get_sync("invite:ada")
        assert record is not None
        assert record.status == "queued"
    app.close_sync()

    assert [job.id for job in recorder.jobs] == ["invite:ada", "invite:grace"]
    assert recorder.duplicates == ["invite:ada"]
    assert not (tmp_path / "home").exists()


async def test_what_no_enqueue_takes_is_refused(app: Taurine, send: JobType[Invite, str]) -> None:
    async with Recorder(app) as recorder:
        with pytest.raises(PayloadInvalid, match="address"):
            await send.enqueue(Invite.model_construct(tenant_id="acme", user_id="ada", address=""))
        with pytest.raises(TenantMismatch):
            await send.enqueue(Invite(user_id="ada"), tenant="globex")
        with pytest.raises(InvalidOption, match="did you mean 'delay'"):
            await send.enqueue(Invite(user_id="ada"), dely=5)  # pyright: ignore[reportCallIssue] - the near miss is the point
        with pytest.raises(PayloadInvalid):
            await send.enqueue_many([Invite(user_id="ada"), Invite.model_construct(user_id="x", address="")])
    assert recorder.jobs == []


async def test_the_hook_is_asked(tmp_path: Path) -> None:
    asked: list[AccessRequest] = []

    async def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return request.user == "op"

    app = Taurine("shop", home=tmp_path / "home", authorize=authorize)
    ping = app.declare("user.ping", Invite)
    with Recorder(app) as recorder:
        with pytest.raises(NotAuthorized):
            await ping.enqueue(Invite(user_id="ada"), user="eve")
        handle = await ping.enqueue(Invite(user_id="ada"), user="op")
        with pytest.raises(NotAuthorized):
            await app.cancel(handle.id, user="eve")
    assert len(recorder.jobs) == 1
    assert [request.action for request in asked] == ["enqueue", "enqueue", "cancel"]


async def test_duplicates_are_as_in_production(app: Taurine, send: JobType[Invite, str]) -> None:
    digest = app.declare("digest.send", Invite, job_id=OncePer("digest:{user_id}", timedelta(days=7)))
    other = app.declare("other.send", Invite, job_id="invite:{user_id}")
    ada = Invite(user_id="ada")
    with Recorder(app) as recorder:
        first = await send.enqueue(ada)
        assert (await send.enqueue(ada)).duplicate
        assert (await send.enqueue(ada, on_duplicate="rerun")).duplicate, "it has not ended"
        with pytest.raises(DuplicateJob, match="is queued"):
            await send.enqueue(ada, on_duplicate="error")
        with pytest.raises(DuplicateJob, match="of type"):
            await other.enqueue(ada, tenant="acme")
        with pytest.raises(TenantMismatch, match="cannot be used here"):
            await send.enqueue(ada.model_copy(update={"tenant_id": "globex"}))
        assert [(await digest.enqueue(ada)).duplicate for _ in range(2)] == [False, True]
        assert len(recorder.jobs) == 2

        recorder.complete(first, "m-1")
        assert await first.result() == "m-1"
        assert (await send.enqueue(ada)).status == "completed"
        again = await send.enqueue(ada, on_duplicate="rerun")
        assert (again.rerun, again.duplicate, again.status) == (True, False, "queued")
        assert (await again.record()).generation == 1
        assert len(recorder.of(send)) == 1


async def test_idempotency_keys_are_as_in_production(tmp_path: Path) -> None:
    clock = TestClock()
    app = Taurine("shop", home=tmp_path / "home", clock=clock)
    ping = app.declare("user.ping", Invite, keep_keys=60)
    with Recorder(app) as recorder:
        first = await ping.enqueue(Invite(user_id="ada"), idempotency_key="k")
        second = await ping.enqueue(Invite(user_id="ada"), idempotency_key="k")
        assert (second.id, second.duplicate) == (first.id, True)
        with pytest.raises(IdempotencyConflict):
            await ping.enqueue(Invite(user_id="grace"), idempotency_key="k")
        clock.advance(61)
        assert not (await ping.enqueue(Invite(user_id="grace"), idempotency_key="k")).duplicate
    assert recorder.assert_enqueued(ping, user_id="ada").idempotency_key == "k"
    assert len(recorder.jobs) == 2


def test_a_message_names_the_nearest(app: Taurine, send: JobType[Invite, str]) -> None:
    """PEER-24: asserting what was enqueued says why it was not."""
    app.declare("user.ping", Invite)
    with Recorder(app) as recorder:
        with pytest.raises(AssertionError, match="What was: nothing"):
            recorder.assert_enqueued(send)
        send.enqueue_many_sync([Invite(user_id=name, address=f"{name}@example.com") for name in ("ada", "bob", "eve")])
        with pytest.raises(AssertionError) as raised:
            recorder.assert_enqueued(send, user_id="bob", address="x@example.com", delay=5)
        assert str(raised.value).splitlines() == [
            "expected a job 'email.sendInvite' with user_id='bob', address='x@example.com', delay=5; none of the 3 enqueued fits. The nearest:",
            "  invite:bob: address='bob@example.com' (expected 'x@example.com'), delay=0.0 (expected 5)",
            "  invite:ada: user_id='ada' (expected 'bob'), address='ada@example.com' (expected 'x@example.com'), delay=0.0 (expected 5)",
            "  invite:eve: user_id='eve' (expected 'bob'), address='eve@example.com' (expected 'x@example.com'), delay=0.0 (expected 5)",
        ]
        with pytest.raises(AssertionError, match=r"no job of that type was enqueued. What was: email.sendInvite × 3"):
            recorder.assert_enqueued("user.ping")
        with pytest.raises(AssertionError, match=r"expected 2 × 'email\.sendInvite'"):
            recorder.assert_enqueued(send, times=2, user_id="ada")
        with pytest.raises(UnknownJobType, match="did you mean"):
            recorder.assert_enqueued("email.sendInvit")
        with pytest.raises(InvalidOption, match="did you mean 'user_id'"):
            recorder.assert_enqueued(send, user="op", userid="ada")
        with pytest.raises(AssertionError, match="invite:ada"):
            recorder.assert_not_enqueued(send, user_id="ada")
        recorder.assert_enqueued(send, address=lambda address: str(address).startswith("eve"))
        recorder.clear()
        recorder.assert_not_enqueued(send)
    app.close_sync()


def test_a_session_that_is_rolled_back_takes_its_jobs_along(app: Taurine, send: JobType[Invite, str]) -> None:
    engine = create_engine("sqlite://")
    with Recorder(app) as recorder:
        with Session(engine) as session, session.begin():
            send.enqueue_sync(Invite(user_id="ada"), session=session, idempotency_key="k")
            with session.begin_nested() as savepoint:
                send.enqueue_sync(Invite(user_id="bob"), session=session)
                assert len(recorder.jobs) == 2, "a test that never commits sees it too"
                savepoint.rollback()
        assert [job.id for job in recorder.jobs] == ["invite:ada"]
        with Session(engine) as session:
            send.enqueue_many_sync([Invite(user_id="eve")], session=session)
        assert [job.id for job in recorder.jobs] == ["invite:ada"]
        assert [job.id for job in recorder.rolled_back] == ["invite:bob", "invite:eve"]
    engine.dispose()
    app.close_sync()


async def test_an_async_session_is_accepted(app: Taurine, send: JobType[Invite, str], tmp_path: Path) -> None:
    pytest.importorskip("aiosqlite")
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'own.db'}")
    with Recorder(app) as recorder:
        async with AsyncSession(engine) as session, session.begin():
            await send.enqueue(Invite(user_id="ada"), session=session)
        async with AsyncSession(engine) as session:
            await send.enqueue(Invite(user_id="bob"), session=session)
    await engine.dispose()
    assert [job.id for job in recorder.jobs] == ["invite:ada"]


async def test_tests_that_run_at_the_same_time_do_not_see_one_anothers_jobs(
    app: Taurine, send: JobType[Invite, str]
) -> None:
    both_are_in = asyncio.Barrier(2)

    async def one_test(name: str) -> list[str]:
        with Recorder(app) as recorder:
            await both_are_in.wait()
            await send.enqueue(Invite(user_id=name))
            await asyncio.to_thread(send.enqueue_sync, Invite(user_id=f"{name}-in-thread"))
            await asyncio.create_task(send.enqueue(Invite(user_id=f"{name}-in-task")))
            await both_are_in.wait()
            return [job.id for job in recorder.jobs]

    found = await asyncio.gather(one_test("ada"), one_test("bob"))
    await app.close()

    assert found == [
        [f"invite:{name}", f"invite:{name}-in-thread", f"invite:{name}-in-task"] for name in ("ada", "bob")
    ]


def test_a_thread_without_a_context_belongs_to_the_only_recorder(app: Taurine, send: JobType[Invite, str]) -> None:
    """And where there are several, it is refused: nothing gets past a recorder."""
    errors: list[BaseException] = []

    def enqueue() -> None:
        try:
            send.enqueue_sync(Invite(user_id="ada"))
        except InvalidOption as error:
            errors.append(error)

    def in_thread(target: object = enqueue, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # pyright: ignore[reportArgumentType] - a function
        thread.start()
        thread.join()

    with Recorder(app) as recorder:
        in_thread()
        assert len(recorder.jobs) == 1
        with Recorder(app) as inner:
            in_thread()
            assert "2 recorders" in str(errors[0])
            assert inner.jobs == []
            in_thread(copy_context().run, enqueue)
            assert len(inner.jobs) == 1
        send.enqueue_sync(Invite(user_id="bob"))
        assert len(recorder.jobs) == 2
    app.close_sync()


def test_many_threads_at_once(app: Taurine, send: JobType[Invite, str]) -> None:
    with Recorder(app) as recorder:
        threads = [
            threading.Thread(
                target=lambda first=first: [
                    send.enqueue_sync(Invite(user_id=str(number))) for number in range(first, first + 40)
                ]
            )
            for first in range(0, 80, 20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    app.close_sync()
    assert sorted(job.id for job in recorder.jobs) == sorted(f"invite:{number}" for number in range(100))
    assert len(recorder.duplicates) == 60


OPERATIONS: dict[str, Callable[[Taurine], Awaitable[object]]] = {
    "retry": lambda app: app.retry("invite:ada"),
    "why": lambda app: app.why("invite:ada"),
    "list": lambda app: app.list(),
    "counts": lambda app: app.counts(),
    "attempts": lambda app: app.attempts("invite:ada"),
    "logs": lambda app: app.logs("invite:ada"),
    "audit": lambda app: app.audit("invite:ada"),
    "quotas": lambda app: app.quotas("acme"),
    "set_quota": lambda app: app.set_quota("acme", max_open=1),
    "compare": lambda app: app.compare(),
    "diagnose": lambda app: app.diagnose(),
    "dead_letters": lambda app: app.dead_letters.list(),
    "queues": lambda app: app.queues.list(),
    "schedules": lambda app: app.schedules.list(),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_what_a_recorder_does_not_have_is_refused(
    app: Taurine, send: JobType[Invite, str], tmp_path: Path, name: str
) -> None:
    """A test that is answered by the ledger of the machine it runs on would pass or fail by what lies there."""

    async def operate() -> None:
        await OPERATIONS[name](app)

    with Recorder(app) as recorder:
        recorder.fail(await send.enqueue(Invite(user_id="ada")), ValueError("no"))
        with pytest.raises(InvalidOption, match=rf"app\.{name} asks the servers.*app\.get.*recorder\.jobs.*drain"):
            await operate()

    assert not (tmp_path / "home").exists()


async def test_what_needs_no_server_is_answered(app: Taurine) -> None:
    @app.cron("0 3 * * *", id="report")
    async def report(ctx: Context) -> None: ...

    with Recorder(app) as recorder:
        assert len(app.schedules.next_runs("report", 2)) == 2
        await app.schedules.trigger("report")

        recorder.assert_enqueued("report", metadata={"schedule": "report"})


async def test_a_recorded_job_is_cancelled_as_in_production(tmp_path: Path) -> None:
    """Also by its handle, which used to pass by the hook."""
    asked: list[AccessRequest] = []

    async def authorize(request: AccessRequest) -> bool:
        asked.append(request)
        return request.user != "eve"

    app = Taurine("shop", home=tmp_path / "home", redis_url="redis://127.0.0.1:1/0", authorize=authorize)
    send = app.declare("email.send", Invite, job_id="invite:{user_id}", tenant="{tenant_id}")
    with Recorder(app):
        handle = await send.enqueue(Invite(user_id="ada"))
        asked.clear()
        with pytest.raises(NotAuthorized):
            await handle.cancel(user="eve")
        with pytest.raises(RecordNotFound):
            await app.cancel(handle.id, tenant="umbrella")
        assert (await app.get(handle.id) or pytest.fail("it is gone")).status == "queued"

        record = await app.cancel(handle.id, reason="sold out", user="ann", tenant="acme")

        assert (record.status, record.cancel_reason) == ("cancelled", "sold out")
        assert (await handle.record()).status == handle.status == "cancelled"
        with pytest.raises(TransitionRefused):
            await handle.cancel(user="ann")
    assert asked[0] == AccessRequest(action="cancel", job_type="email.send", tenant="acme", user="eve")


async def test_nobody_is_waited_for(app: Taurine, send: JobType[Invite, str]) -> None:
    with Recorder(app) as recorder:
        handle = await send.enqueue(Invite(user_id="ada"))
        with pytest.raises(WaitTimeout):
            await handle.result(timeout=60)
        with pytest.raises(InvalidOption, match="nobody runs jobs"):
            await handle.result()
        await handle.cancel(reason="no longer needed")
        with pytest.raises(JobCancelled, match="no longer needed"):
            await handle.result()
        second = await send.enqueue(Invite(user_id="bob"))
        recorder.fail(second, ConnectionError("busy"))
        with pytest.raises(JobFailed, match="busy"):
            await second.result()
        assert await app.get("invite:bob", tenant="globex") is None
        with pytest.raises(RecordNotFound):
            recorder.complete("invite:eve")


async def test_jobs_run_when_they_are_enqueued(app: Taurine) -> None:
    """PEER-24: the inline mode, with all attempts and no pause; what handlers enqueue runs too."""

    @app.job("number.halve", retry=Retry(attempts=3, backoff=Fixed(3600)))
    async def halve(number: int, ctx: Context) -> int:
        if ctx.attempt < 3:
            ctx.state["seen"] = [*ctx.state.get("seen", []), ctx.attempt]
            raise ConnectionError
        assert ctx.state["seen"] == [1, 2]
        if number > 1:
            await halve.enqueue(number // 2)
        return number // 2

    @app.job("word.say")
    def say(word: str) -> str:
        raise Snooze(5) if word == "asleep" else ValueError(word)

    elsewhere = app.declare("word.sing", str)
    with Recorder(app, inline=True) as recorder:
        handle = await halve.enqueue(4, user="op")
        assert (handle.status, await handle.result()) == ("completed", 2)
        assert (await handle.record()).attempts == 3
        failed, asleep = await say.enqueue_many(["x", "asleep"])
        assert (failed.status, asleep.status) == ("failed", "waiting")
        assert (await elsewhere.enqueue("la")).status == "queued"
        assert (await say.enqueue("later", delay=60)).status == "queued"
    assert [(job.payload, job.user, job.source) for job in recorder.of(halve)] == [
        (4, "op", "shop"),
        (2, "op", f"job {handle.id}"),
        (1, "op", f"job {recorder.of(halve)[1].id}"),
    ]


async def test_recorded_jobs_run_when_the_test_says_so(tmp_path: Path) -> None:
    """PEER-24: the manual mode, drained without a server, by the application's clock."""
    clock = TestClock()
    app = Taurine("shop", home=tmp_path / "home", clock=clock)

    @app.job("number.count")
    async def count(number: int) -> int:
        if number:
            await count.enqueue(number - 1, delay=60)
        return number

    with Recorder(app) as recorder:
        await count.enqueue(1)
        assert [attempt.result for attempt in await recorder.run()] == [1]
        assert await recorder.run() == []
        clock.advance(60)
        assert [attempt.result for attempt in await recorder.run(count)] == [0]
