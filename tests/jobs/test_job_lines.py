"""Log lines: one for each step, with the job's fields on each, redacted, and none that can be forged."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from support.executed import Task, say
from taurine.app import Taurine
from taurine.errors import JobFailed
from taurine.jobs.handler.context import Context
from taurine.jobs.reporting.line_format import log_handler
from taurine.jobs.reporting.lines import JobFields, one_line, several_lines
from taurine.jobs.reporting.redaction import Redact
from taurine.retry import Fixed, Retry
from taurine.settings import LogFormat


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[Any] = []
        self.addFilter(JobFields())

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def about(self, words: str) -> list[Any]:
        return [record for record in self.records if words in record.getMessage()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


async def kept(app: Taurine, job_id: str) -> list[tuple[str, str]]:
    sql = text("select level, message from taurine_job_log where job_id = :id order by number")
    database = app._backend().database
    return [tuple(row) for row in await database.read(lambda connection: connection.execute(sql, {"id": job_id}).all())]


FIELDS = ("job_id", "job_type", "queue", "attempt", "tenant", "trace")


async def test_start_retry_and_completion_each_have_their_line_with_all_fields(app: Taurine, lines: Lines) -> None:
    """SEED-060, SEED-097, SEED-098, SEED-099, SEED-104, SEED-123, SEED-178, SEED-191, SEED-196, SEED-197."""

    @app.job("ticket.triage", queue="tasks", tenant="{tenant_id}", retry=Retry(attempts=2, backoff=Fixed(0)))
    async def task(_: Task, ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ConnectionError("refused")

    handle = await task.enqueue(Task())
    async with app.worker():
        await handle.result(timeout=10)
    starts, retries, ends = lines.about(") starts"), lines.about("is tried again"), lines.about("completed in")
    assert [line.attempt for line in starts] == [1, 2]
    assert [(line.levelname, line.attempt, line.error) for line in retries] == [
        ("WARNING", 1, "ConnectionError: refused")
    ]
    assert [(line.levelname, line.attempt) for line in ends] == [("INFO", 2)]
    assert ends[0].duration >= 0
    for line in (*starts, *retries, *ends):
        assert all(hasattr(line, field) for field in FIELDS)
        assert (line.job_id, line.job_type, line.queue, line.tenant) == (handle.id, "ticket.triage", "tasks", "acme")


async def test_a_dead_job_has_an_error_line_with_its_error_and_attempts(app: Taurine, lines: Lines) -> None:
    """SEED-139, SEED-197."""

    @app.job("ticket.triage", queue="tasks", retry=Retry(attempts=2, backoff=Fixed(0)))
    async def task(_: Task) -> None:
        raise ConnectionError("refused")

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
    (dead,) = lines.about("is dead")
    assert (dead.levelname, dead.job_id, dead.queue, dead.error, dead.reason) == (
        *("ERROR", handle.id, "tasks", "ConnectionError: refused", "exhausted"),
    )
    assert "after 2 of 2 attempts" in dead.getMessage()


async def test_lines_of_the_handler_are_kept_with_the_record_also_on_success(app: Taurine, lines: Lines) -> None:
    """SEED-040, SEED-100: both of ctx.log and of any other logger, the fields are on each."""

    @app.job("ticket.triage", queue="tasks", tenant="{tenant_id}")
    async def task(_: Task, ctx: Context) -> None:
        ctx.log("first")
        ctx.log.warning("second", amount=12)
        logging.getLogger("some.library").warning("from a library")

    handle = await task.enqueue(Task())
    async with app.worker():
        await handle.result(timeout=10)
        await app._backend().group.close()
    assert [(line.level, line.message, line.fields) for line in await app.logs(handle.id)] == [
        ("info", "first", None),
        ("warning", "second", {"amount": 12}),
    ]
    for words in ("first", "second", "from a library"):
        (line,) = lines.about(words)
        assert (line.job_id, line.attempt, line.tenant, line.queue) == (handle.id, 1, "acme", "tasks")
    assert lines.about("second")[0].fields == {"amount": 12}


async def test_lines_of_a_thread_and_of_a_process_are_the_same(app: Taurine, lines: Lines) -> None:
    in_thread = app.job("ticket.triage", queue="tasks")(say)
    in_process = app.job("mail.send", queue="tasks", runs_in="process")(say)
    for job_type in (in_thread, in_process):
        handle = await job_type.enqueue(Task())
        async with app.worker():
            assert await handle.result(timeout=20) == "ok"
            await app._backend().group.close()
        assert await kept(app, handle.id) == [("info", "said")]
        (line,) = [line for line in lines.about("said") if line.job_id == handle.id]
        assert (line.levelname, line.attempt) == ("INFO", 1)


async def test_secrets_are_hidden_in_lines_errors_and_ids(app: Taurine, lines: Lines) -> None:
    """SEED-255, SEED-277."""

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> None:
        ctx.log("mail to joe@mail.example", to="joe@mail.example", password="hunter2")
        raise ValueError("cannot reach joe@mail.example with password=hunter2")

    handle = await task.enqueue(Task(), job_id="invite:joe@mail.example")
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        await app._backend().group.close()
    record = await handle.record()
    shown = [repr(record.error), repr(await app.logs(handle.id))]
    shown += [line.getMessage() + repr(vars(line)) for line in lines.records if line.name.startswith("taurine.")]
    for words in shown:
        assert "joe@" not in words
        assert "hunter2" not in words
    assert any(line.job_id.startswith("invite:[redacted]#") for line in lines.about("is dead"))


async def test_the_reason_of_a_cancel_is_hidden_too(app: Taurine, lines: Lines) -> None:
    """SEED-255: whoever cancels may write an address."""
    started = asyncio.Event()

    @app.job("ticket.wait", queue="tasks", retry=Retry.NONE)
    async def task(_: Task) -> None:
        started.set()
        await asyncio.Event().wait()

    handle = await task.enqueue(Task(), job_id="a")
    async with app.worker():
        await asyncio.wait_for(started.wait(), 20)
        await handle.cancel(reason="joe@mail.example does not want it")
        await app.wait(handle.id, 20)
    (line,) = lines.about("is to stop")
    assert line.getMessage().endswith("[redacted] does not want it")
    assert not lines.about("joe@")


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_line_that_others_write_is_shown_without_its_secrets(log_format: LogFormat) -> None:
    """SEED-277: the engine's, for one, which knows of no rules; with the text of its error."""
    try:
        raise ValueError("joe@mail.example")
    except ValueError:
        error = sys.exc_info()
    record = logging.LogRecord("taurine.queue", logging.WARNING, "x.py", 1, "job %s", ("for joe@mail.example",), error)
    shown = log_handler(log_format).format(record)

    assert "joe" not in shown
    assert shown.count("[redacted]") == 3  # with the line of the source
    assert record.getMessage() == "job for joe@mail.example"  # other handlers have rules of their own


def test_the_fields_of_a_line_are_shown_behind_it() -> None:
    """SEED-100: `ctx.log.info("second", number=3)` loses nothing, and nothing in it can begin a line of its own."""
    record = logging.LogRecord("taurine.handler", logging.INFO, "x.py", 1, "second", (), None)
    record.__dict__["fields"] = {"number": 3, "user": "ada", "text": "two words\n\x1b[2J", "tags": ["a"]}

    shown = log_handler("console").format(record)
    told = json.loads(log_handler("json").format(record))

    assert shown.endswith(r'taurine.handler: second number=3 user=ada text="two words\n\u001b[2J" tags=["a"]')
    assert told["fields"] == record.__dict__["fields"]


def test_fields_of_others_are_shown_without_their_secrets() -> None:
    record = logging.LogRecord("some.library", logging.INFO, "x.py", 1, "sent", (), None)
    record.__dict__["fields"] = {"to": "joe@mail.example"}

    assert log_handler("console").format(record).endswith("sent to=[redacted]")
    assert "joe" not in log_handler("json").format(record)


async def test_an_application_may_hide_nothing(app_factory: Callable[..., Taurine]) -> None:
    app = app_factory(redact=Redact.NONE)

    @app.job("ticket.triage", queue="tasks")
    async def task(_: Task, ctx: Context) -> None:
        ctx.log("mail to joe@mail.example")

    handle = await task.enqueue(Task())
    async with app.worker():
        await handle.result(timeout=10)
        await app._backend().group.close()
    assert await kept(app, handle.id) == [("info", "mail to joe@mail.example")]


HOSTILE = "fine\r\n2027-01-15 ERROR forged\x1b[2J\x1b]0;title\x07\u202eevil\u2028next\0"


async def test_what_users_write_cannot_forge_a_line_or_steer_a_terminal(app: Taurine, lines: Lines) -> None:
    """A46."""

    @app.job("ticket.triage", queue="tasks", retry=Retry.NONE)
    async def task(_: Task, ctx: Context) -> None:
        ctx.log(HOSTILE)
        raise ValueError(HOSTILE)

    handle = await task.enqueue(Task())
    async with app.worker():
        with pytest.raises(JobFailed):
            await handle.result(timeout=10)
        await app._backend().group.close()
    for line in lines.records:
        if line.name.startswith("taurine."):
            words = line.getMessage()
            assert not any(character in words for character in "\r\x1b\x07\u202e\u2028\0")
            assert not any(part.startswith("2027") for part in words.split("\n"))
    ((_, message),) = await kept(app, handle.id)
    assert "\x1b" not in message
    assert "\0" not in message


def test_escaping() -> None:
    assert one_line("a\nb\tc\x9bd") == "a\\nb\tc\\x9bd"
    assert several_lines("a\nb\x1b") == "a\nb\\x1b"
    assert one_line("Grüße 你好") == "Grüße 你好"


def test_the_filter_hides_what_other_loggers_write_if_asked() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "to %s", ("joe@mail.example",), None)
    assert JobFields(redact=Redact.DEFAULT).filter(record)
    assert record.getMessage() == "to [redacted]"
