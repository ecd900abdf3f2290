"""The database is locked, full, restarted or gone, and the program dies: calls end in bounded time with a typed error,
and nothing is half written.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, select, text

from ledger.writers import TOGETHER
from ledger.writing import completion, insert_raw, new_record, row_of
from support.eventually import eventually
from support.ledger import open_transaction, somebody_waits
from support.postgres import PostgresServer
from taurine.errors import InvalidOption, LedgerError, LedgerRefused, LedgerUnavailable
from taurine.ledger import database as module
from taurine.ledger import rows
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database, SQLiteDatabase, open_database
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.migrate import migrate
from taurine.ledger.records import insert_records
from taurine.ledger.schema import job, job_tag

KILLS = int(os.environ.get("TAURINE_TEST_KILLS", "200"))

HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
print("released", flush=True)
"""


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits end after half a second rather than five; databases must be opened after this."""
    monkeypatch.setattr(module, "_LOCK_SECONDS", 0.5)


@pytest.fixture
async def sqlite(tmp_path: Path, soon: None) -> AsyncGenerator[SQLiteDatabase]:
    database = open_database(f"sqlite:///{tmp_path / 'taurine.db'}")
    assert isinstance(database, SQLiteDatabase)
    await migrate(database)
    yield database
    await database.close()


@pytest.fixture
def writer() -> Iterator[subprocess.Popen[str]]:
    """A process that forks writers, one for each line that it reads."""
    command = [sys.executable, str(Path(__file__).with_name("writers.py"))]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process


@contextlib.contextmanager
def _locked_by_another_program(path: str) -> Generator[None]:
    command = [sys.executable, "-c", HOLDER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "released\n"


def _put(id_: str) -> Callable[[Connection], Any]:
    return lambda connection: insert_records(connection, [new_record(id_, tags=("one", "two"))])


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(job)).scalar_one()


async def _records(database: Database) -> set[str]:
    return await database.read(lambda connection: set(connection.scalars(select(job.c.id))))


# SQLite -----------------------------------------------------------------------------------------------------------------------


async def test_another_program_that_holds_the_write_lock_is_waited_for_in_bounded_time(
    sqlite: SQLiteDatabase, figure: Callable[[str], None]
) -> None:
    """F36: fifty writes that wait for one lock do not wait one after the other; reads go on; nothing is lost or ghostly
    after.
    """
    await sqlite.write(_put("before"))
    group = GroupCommit(sqlite)
    assert sqlite.url.database is not None
    with _locked_by_another_program(sqlite.url.database):
        async with asyncio.timeout(15):  # one after the other they would take 50 times the limit
            direct = [sqlite.write(_put(f"direct-{number}")) for number in range(50)]
            grouped = [group.submit(insert_records, new_record(f"group-{number}")) for number in range(50)]
            answers = await asyncio.gather(*direct, *grouped, return_exceptions=True)
        assert {type(answer) for answer in answers} == {LedgerUnavailable}
        assert all(error.retryable for error in answers if isinstance(error, LedgerUnavailable))
        assert "locked" in str(answers[0])
        assert await _records(sqlite) == {"before"}
    await sqlite.write(_put("after"))
    assert await _records(sqlite) == {"before", "after"}
    figure("F36: 100 of 100 writes ended as LedgerUnavailable while another program held the lock; lost 0, ghosts 0")


async def test_a_short_lock_is_waited_out(sqlite: SQLiteDatabase) -> None:
    assert sqlite.url.database is not None
    with _locked_by_another_program(sqlite.url.database):
        writing = asyncio.create_task(sqlite.write(_put("a")))
        await asyncio.sleep(0.05)
        assert not writing.done()
    await writing
    assert await _records(sqlite) == {"a"}


async def test_a_write_that_waits_for_its_turn_is_not_taken_back_with_its_caller(
    sqlite: SQLiteDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """The second is still in line for the one thread that writes; the third fails, and nobody is there to hear it."""
    assert sqlite.url.database is not None
    with _locked_by_another_program(sqlite.url.database):
        writes = [asyncio.create_task(sqlite.write(work)) for work in (_put("a"), _put("b"), _fail)]
        await asyncio.sleep(0)  # each has handed its work in
        for writing in writes:
            writing.cancel()
        assert {type(end) for end in await asyncio.gather(*writes, return_exceptions=True)} == {asyncio.CancelledError}
    await sqlite.close()  # after all that is under way
    again = open_database(sqlite.url)
    assert await _records(again) == {"a", "b"}
    await again.close()
    gc.collect()
    assert caplog.records == []


def _fail(_: Connection) -> None:
    raise RuntimeError("nobody hears this")


async def test_a_full_disk_refuses_and_leaves_nothing_half_written(
    tmp_path: Path, figure: Callable[[str], None]
) -> None:
    """F37: in add and in finish; what was said to be written is there, and what was refused is not."""
    url = f"sqlite:///{tmp_path / 'taurine.db'}"
    roomy = open_database(url)
    await migrate(roomy)
    await roomy.write(_put("first"))
    full = open_database(url)
    assert isinstance(full, SQLiteDatabase)

    @event.listens_for(full._writing, "connect")
    def limit(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 40}")

    begun: list[object] = []
    event.listen(full._writing, "begin", begun.append)
    group = GroupCommit(full)
    payload = '"' + "x" * 2_000 + '"'
    answers = await asyncio.gather(
        *(
            group.submit(insert_records, new_record(f"job-{number}", payload=payload, tags=("one", "two")))
            for number in range(200)
        ),
        return_exceptions=True,
    )
    written = {f"job-{number}" for number, answer in enumerate(answers) if not isinstance(answer, Exception)}
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert refused
    assert {type(error) for error in refused} == {LedgerRefused}
    assert "full" in str(refused[0])
    assert len(begun) <= 2, "a full disk is no fault of one of them: they are not tried in ever smaller parts"
    assert await _records(full) == {"first", *written}

    with pytest.raises(LedgerRefused, match="full"):
        await full.write(
            lambda connection: apply_completions(connection, [completion("first", output='"' + "y" * 400_000 + '"')])
        )
    assert (await full.read(lambda connection: row_of(connection, "first")))["status"] == "queued"
    tags = await full.read(
        lambda connection: connection.execute(select(func.count()).select_from(job_tag)).scalar_one()
    )
    assert tags == 2 * (len(written) + 1)

    # Room again: the same calls work.
    await roomy.write(lambda connection: apply_completions(connection, [completion("first")]))
    await roomy.close()
    await full.close()
    figure(f"F37: disk full: {len(written)} written and there, {len(refused)} refused and not there; ghosts 0")


async def test_a_program_killed_in_mid_write_leaves_whole_transactions(
    tmp_path: Path, writer: subprocess.Popen[str], seed: int, figure: Callable[[str], None]
) -> None:
    """F38: SIGKILL at any moment; the file is sound each time, what was acknowledged is there, and no transaction in
    part.
    """
    url = f"sqlite:///{tmp_path / 'taurine.db'}"
    database = open_database(url)
    await migrate(database)
    chance = random.Random(seed)
    acknowledged = 0
    for cycle in range(KILLS):
        acknowledged = await asyncio.to_thread(_write_until_killed, writer, url, acknowledged, chance)
        found = await database.read(_soundness)
        assert found["integrity"] == "ok"
        assert found["jobs"] % TOGETHER == 0
        assert found["tags"] == 3 * found["jobs"], f"cycle {cycle}: a transaction in part"
        assert found["audit"] == found["jobs"]
        assert found["jobs"] >= acknowledged, f"cycle {cycle}: acknowledged records are gone"
        acknowledged = found["jobs"]  # the last one may have been committed without saying so
    await database.close()
    figure(f"F38: {KILLS}/{KILLS} kills in mid-write left a sound file; {acknowledged} records, lost 0")


def _write_until_killed(writer: subprocess.Popen[str], url: str, first: int, chance: random.Random) -> int:
    """Let a writer go on for some transactions and part of one, kill it, and return the last number that it
    acknowledged.
    """
    assert writer.stdin is not None
    assert writer.stdout is not None
    writer.stdin.write(f"{url} {first}\n")
    writer.stdin.flush()
    pid = int(writer.stdout.readline())
    acknowledged = first
    for _ in range(chance.randrange(4)):
        acknowledged = int(writer.stdout.readline())
    # Within a transaction: it takes a few milliseconds.
    time.sleep(chance.random() * 0.012)
    os.kill(pid, signal.SIGKILL)
    while (line := writer.stdout.readline()) != "dead\n":
        acknowledged = int(line)
    return acknowledged


def _soundness(connection: Connection) -> dict[str, Any]:
    counts = {
        name: connection.execute(text(f"SELECT count(*) FROM taurine_{table}")).scalar_one()
        for name, table in {"jobs": "job", "tags": "job_tag", "audit": "audit"}.items()
    }
    return counts | {"integrity": connection.execute(text("PRAGMA integrity_check")).scalar_one()}


async def test_a_file_that_is_no_database_is_refused_and_not_retried(tmp_path: Path) -> None:
    path = tmp_path / "taurine.db"
    path.write_text("not a database at all, but a text that is long enough to be read as one" * 100)
    database = open_database(f"sqlite:///{path}")
    with pytest.raises(LedgerRefused, match="not a database"):
        await database.read(_count)
    await database.close()


async def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    """A53: whatever the umask and the folder say; one that is there keeps its rights."""
    for name in ("new.db", "old.db"):
        path = tmp_path / name
        if name == "old.db":
            path.touch(mode=0o644)
        database = open_database(f"sqlite:///{path}")
        await database.write(lambda connection: connection.exec_driver_sql("create table x (y)").close())
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob(f"{name}*")}  # noqa: ASYNC240
        await database.close()
        assert modes.keys() == {name, f"{name}-wal", f"{name}-shm"}
        assert set(modes.values()) == {0o600 if name == "new.db" else path.stat().st_mode & 0o777}


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'none' / 'taurine.db'}")
    with pytest.raises(LedgerRefused, match="unable to open"):
        await database.write(_count)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://host/name", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_serve_is_refused_at_once(url: str) -> None:
    with pytest.raises(InvalidOption):
        open_database(url)


# PostgreSQL -------------------------------------------------------------------------------------------------------------------


async def test_fifty_waiters_for_a_pool_of_two_all_get_their_turn(postgres_url: str) -> None:
    """F40: they hold a connection each for a moment, and nobody waits for somebody who waits."""
    database = open_database(postgres_url, pool_size=2)
    await migrate(database)
    group = GroupCommit(database)

    def slow(connection: Connection, number: int) -> None:
        connection.execute(text("SELECT pg_sleep(0.01)"))
        insert_records(connection, [new_record(f"job-{number}")])

    async with asyncio.timeout(30):
        await asyncio.gather(
            *(database.write(lambda connection, number=number: slow(connection, number)) for number in range(50)),
            *(database.read(_count) for _ in range(50)),
            *(group.submit(insert_records, new_record(f"group-{number}")) for number in range(50)),
        )
    assert await database.read(_count) == 100
    await database.close()


async def test_a_pool_that_is_used_up_is_a_typed_error_in_bounded_time(
    postgres_url: str, soon: None, figure: Callable[[str], None]
) -> None:
    """F40: the two that hold the connections go on; the others are told, and the pool works afterwards."""
    database = open_database(postgres_url, pool_size=2, answer_seconds=30)
    await migrate(database)
    holding: list[int] = []

    def hold(connection: Connection) -> None:
        holding.append(1)
        connection.execute(text("SELECT pg_sleep(2)"))

    holders = [asyncio.create_task(database.write(hold)) for _ in range(2)]
    await eventually(lambda: len(holding) == 2)
    async with asyncio.timeout(30):
        answers = await asyncio.gather(
            *(database.read(_count) for _ in range(25)),
            *(database.write(_put(f"job-{number}")) for number in range(25)),
            return_exceptions=True,
        )
        await asyncio.gather(*holders)
        after = await database.read(_count)
    await database.close()
    assert {type(answer) for answer in answers} == {LedgerUnavailable}
    assert "no connection to" in str(answers[0])
    assert after == 0
    figure("F40: pool of 2, 50 waiters: all told in bounded time while it was used up, deadlocks 0")


async def test_a_call_after_a_restart_of_the_server_works(
    postgres_factory: Callable[..., PostgresServer], soon: None
) -> None:
    """All pooled connections are dead; while the server is down, the error is typed, says where, and shows no password."""
    server = postgres_factory()
    url = server.url_of(await server.create_database())
    database = open_database(url)
    await migrate(database)
    await asyncio.gather(*(database.write(_put(f"before-{number}")) for number in range(5)))
    await asyncio.to_thread(server.restart)
    await database.write(_put("after-restart"))
    await asyncio.to_thread(server.kill)
    for call in (database.write(_put("never")), database.read(_count)):
        with pytest.raises(LedgerUnavailable) as caught:
            async with asyncio.timeout(10):
                await call
        assert "127.0.0.1" in str(caught.value)
        assert server._password not in str(caught.value)
    await asyncio.to_thread(server.start)
    await database.write(_put("after-kill"))
    assert len(await _records(database)) == 7
    await database.close()


async def test_connections_that_the_server_ends_fail_typed_or_not_at_all(
    postgres_url: str, postgres: PostgresServer, figure: Callable[[str], None]
) -> None:
    """pg_terminate_backend under load: what was acknowledged is there with its tags, and what was not is there in whole
    or not at all.
    """
    database = open_database(postgres_url)
    await migrate(database)
    name = postgres_url.rpartition("/")[2]
    acknowledged: set[str] = set()
    failed: list[Exception] = []
    stop = asyncio.Event()

    async def write(worker: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            id_ = f"job-{worker}-{number}"
            try:
                await database.write(_put(id_))
            except LedgerError as error:
                failed.append(error)
            else:
                acknowledged.add(id_)

    writing = [asyncio.create_task(write(worker)) for worker in range(8)]
    async with postgres.admin() as admin:
        for turn in range(10):
            before = len(acknowledged)
            await eventually(lambda before=before: len(acknowledged) > before + 20)
            await admin.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
            await eventually(lambda turn=turn: failed or turn < 5, message="no call was hit")
    stop.set()
    await asyncio.gather(*writing)
    assert {type(error) for error in failed} <= {LedgerUnavailable}
    found = await _records(database)
    assert acknowledged <= found
    tags = await database.read(
        lambda connection: connection.execute(select(func.count()).select_from(job_tag)).scalar_one()
    )
    assert tags == 2 * len(found)
    await database.close()
    figure(
        f"connections ended 10 times under load: {len(acknowledged)} acknowledged, lost 0;"
        f" {len(failed)} told as LedgerUnavailable, {len(found - acknowledged)} of them written"
    )


# Both -------------------------------------------------------------------------------------------------------------------------


async def test_a_caller_that_is_cancelled_leaves_a_whole_write(database: Database) -> None:
    for number in range(20):
        writing = asyncio.create_task(database.write(_put(f"job-{number}")))
        await asyncio.sleep(0.0005 * number)
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
    await database.write(_put("last"))  # after all that still were under way on SQLite
    await eventually(lambda: _whole(database))


async def _whole(database: Database) -> bool:
    tags, jobs = await database.read(
        lambda connection: (
            connection.execute(select(func.count()).select_from(job_tag)).scalar_one(),
            _count(connection),
        )
    )
    return tags == 2 * jobs


async def test_an_error_of_the_work_itself_is_raised_as_it_is_and_rolls_back(database: Database) -> None:
    def work(connection: Connection) -> None:
        insert_raw(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        await database.write(work)
    assert caught.value.__cause__ is None
    assert await _records(database) == set()


@pytest.mark.parametrize("state", ["40P01", "40001"])
async def test_a_victim_of_a_deadlock_is_written_again_once(postgres_ledger: Database, state: str) -> None:
    """PostgreSQL has rolled it back, and let the other one pass."""
    calls = 0

    def work(connection: Connection, failures: int) -> str:
        nonlocal calls
        calls += 1
        insert_raw(connection, id="a")
        if calls <= failures:
            connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"))
        return "done"

    with pytest.raises(LedgerUnavailable):
        await postgres_ledger.write(lambda connection: work(connection, 9))
    assert (calls, await _records(postgres_ledger)) == (2, set())
    calls = 0
    assert await postgres_ledger.write(lambda connection: work(connection, 1)) == "done"
    assert (calls, await _records(postgres_ledger)) == (2, {"a"})


async def test_all_statements_of_a_read_see_the_same(postgres_ledger: Database, postgres_ledger_url: str) -> None:
    def read(connection: Connection) -> list[int]:
        before = _count(connection)
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(1)"))  # until the other one has committed
        return [before, _count(connection)]

    async with open_transaction(postgres_ledger_url) as other:
        await other.execute(text("SELECT pg_advisory_xact_lock(1)"))
        reading = asyncio.create_task(postgres_ledger.read(read))
        await somebody_waits(postgres_ledger_url)
        await other.run_sync(lambda connection: insert_raw(connection, id="a"))
    assert await reading == [0, 0]
    assert await _records(postgres_ledger) == {"a"}
    with pytest.raises(LedgerRefused, match="read-only"):
        await postgres_ledger.read(_put("b"))


async def test_a_batch_of_many_megabytes_goes_in_parts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite takes no value of more than 10^9 bytes."""
    monkeypatch.setattr(rows, "_MOST_CHARACTERS", 5_000)
    sizes = [10, 4_000, 20_000, 300]
    records = [
        new_record(f"job-{number:03}", payload=f'"{"x" * sizes[number % 4]}"', created_at=number + 1)
        for number in range(350)
    ]
    given = [(record.id, record.payload) for record in records]
    texts = list(rows._as_json(given))
    assert [tuple(row) for text_ in texts for row in json.loads(text_)] == given
    assert all(len(text_) <= 5_000 or len(json.loads(text_)) == 1 for text_ in texts)

    answers = await database.write(lambda connection: insert_records(connection, records))
    assert all(answer.existing is None for answer in answers)
    ended = [completion(record.id) for record in records]
    assert await database.write(lambda connection: apply_completions(connection, ended)) == [None] * 350
