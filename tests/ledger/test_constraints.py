"""What the database itself refuses, whatever the code does."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, insert
from sqlalchemy.exc import IntegrityError

from ledger.writing import NOW, insert_raw
from taurine.errors import LedgerRefused
from taurine.ledger.database import Database
from taurine.ledger.schema import (
    admin,
    api_key,
    attempt,
    dead_letter,
    effect,
    job_log,
    job_tag,
    quota,
    session,
    used_token,
)

ENDED = {"finished_at": NOW + 5, "updated_at": NOW + 5}
ERROR = '{"type":"E","message":"m"}'

REFUSED: dict[str, dict[str, Any]] = {
    "an unknown status": {"status": "done"},
    "an end without its time": {"status": "completed"},
    "a time of ending without an end": {"finished_at": NOW},
    "completed with an error only (SEED-231)": {"status": "completed", "error": ERROR, **ENDED},
    "completed with output and error (SEED-231)": {"status": "completed", "output": "1", "error": ERROR, **ENDED},
    "failed without an error (SEED-231)": {"status": "failed", **ENDED},
    "failed with an output (SEED-231)": {"status": "failed", "error": ERROR, "output": "1", **ENDED},
    "an output before the end (SEED-231)": {"status": "running", "output": "1"},
    "expired with an output": {"status": "expired", "output": "1", **ENDED},
    "fewer than one attempt": {"max_attempts": 0},
    "a negative fence": {"fence": -1},
    "a negative generation": {"generation": -1},
    "attempts below none": {"attempts": -1},
    "an update before the creation": {"updated_at": NOW - 1},
    "an end with another attempt to come": {"status": "completed", "next_attempt_at": NOW + 9, **ENDED},
    "a job that runs and waits for its next attempt": {"status": "running", "next_attempt_at": NOW + 9},
    "no payload": {"payload": None},
    "no type": {"type": None},
    "no queue": {"queue": None},
}

ACCEPTED: dict[str, dict[str, Any]] = {
    "completed with nothing": {"status": "completed", **ENDED},
    "completed with output": {"status": "completed", "output": "1", **ENDED},
    "failed with an error": {"status": "failed", "error": ERROR, **ENDED},
    "cancelled with a partial result": {"status": "cancelled", "output": "1", **ENDED},
    "retrying with the last error": {"status": "retrying", "error": ERROR, "next_attempt_at": NOW + 9},
    "put back with its pause": {"status": "queued", "next_attempt_at": NOW + 9},
    "expired": {"status": "expired", **ENDED},
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED.keys())
async def test_a_record_that_contradicts_itself_is_refused(database: Database, given: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        await database.write(lambda connection: insert_raw(connection, **given))


@pytest.mark.parametrize("given", ACCEPTED.values(), ids=ACCEPTED.keys())
async def test_a_record_that_holds_together_is_taken(database: Database, given: dict[str, Any]) -> None:
    await database.write(lambda connection: insert_raw(connection, **given))


async def test_one_record_per_id(database: Database) -> None:
    """SEED-017: the database is the truth of what is there."""
    await database.write(insert_raw)
    with pytest.raises(IntegrityError):
        await database.write(insert_raw)


DEAD = {"id": "d", "job_id": "a", "generation": 0, "type": "t", "queue": "q", "payload": "{}", "error": ERROR} | {
    "reason": "exhausted",
    "attempts": 3,
    "max_attempts": 3,
    "priority": 0,
    "failed_at": NOW,
}

KEY = {"id": "k", "secret_hash": "h", "name": "n", "scopes": "read", "created_at": NOW}
ADMIN = {"name": "ada", "password_hash": "h", "role": "viewer", "created_at": NOW, "password_at": NOW}
SESSION = {"token_hash": "h", "name": "ada", "source": "oidc", "scopes": "read", "created_at": NOW, "seen_at": NOW} | {
    "expires_at": NOW
}
USED = {"id": "u", "used_at": NOW, "expires_at": NOW}

OTHERS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "a tag of no job": (job_tag, [{"job_id": "x", "tag": "t", "created_at": NOW}]),
    "an attempt of no job": (
        attempt,
        [{"job_id": "x", "fence": 1, "number": 1, "outcome": "retried", "finished_at": NOW}],
    ),
    "an outcome that is none": (
        attempt,
        [{"job_id": "a", "fence": 1, "number": 1, "outcome": "won", "finished_at": NOW}],
    ),
    "a line of no job": (job_log, [{"job_id": "x", "number": 1, "at": NOW, "level": "info", "message": "m"}]),
    "a level that is none": (job_log, [{"job_id": "a", "number": 1, "at": NOW, "level": "loud", "message": "m"}]),
    "two dead letters of one generation": (dead_letter, [DEAD, DEAD | {"id": "e"}]),
    "a dead letter for no known reason": (dead_letter, [DEAD | {"reason": "tired"}]),
    "a resolved dead letter without its time": (dead_letter, [DEAD | {"status": "discarded"}]),
    "an effect that is done without its time": (
        effect,
        [{"scope": "", "key": "k", "status": "done", "job_id": "a", "fence": 1, "created_at": NOW}],
    ),
    "a quota below none": (quota, [{"tenant": "t", "type": "", "max_open": -1}]),
    "a quota of nothing": (quota, [{"tenant": "t", "type": ""}]),
    "a rate without its time": (quota, [{"tenant": "t", "type": "", "rate_max": 5}]),
    "a rate of none": (quota, [{"tenant": "t", "type": "", "rate_max": 0, "rate_ms": 1000}]),
    "two keys of one id": (api_key, [KEY, KEY]),
    "a role that is none": (admin, [ADMIN | {"role": "root"}]),
    "two admins of one name": (admin, [ADMIN, ADMIN]),
    "a session that began in no known way": (session, [SESSION | {"source": "guess"}]),
    "a token that is used twice": (used_token, [USED, USED]),
}


@pytest.mark.parametrize(("table", "rows"), OTHERS.values(), ids=OTHERS.keys())
async def test_the_other_tables_refuse_what_cannot_be(
    database: Database, table: Any, rows: list[dict[str, Any]]
) -> None:
    await database.write(insert_raw)

    def put(connection: Connection) -> None:
        for row in rows:
            connection.execute(insert(table), row)

    with pytest.raises(IntegrityError):
        await database.write(put)


async def test_no_error_shows_a_value(database: Database) -> None:
    """Payloads are users' data, and errors end up in logs: neither the error nor what it came from quotes one."""
    secret = "sk-secret-4711"

    def refused(connection: Connection) -> None:
        insert_raw(connection, payload=secret, status="failed")

    def mistyped(connection: Connection) -> None:
        insert_raw(connection, payload=secret + "\ud800", created_by=secret)

    def twice(connection: Connection) -> None:
        insert_raw(connection, id=secret)
        insert_raw(connection, id=secret)

    for work in (refused, mistyped, twice):
        with pytest.raises((IntegrityError, LedgerRefused, UnicodeEncodeError)) as caught:
            await database.write(work)
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in str(error)
            assert isinstance(error, UnicodeEncodeError) or secret not in repr(error)
            error = error.__cause__ or error.__context__
