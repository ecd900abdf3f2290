"""What the ledger's tests write: records and outcomes with everything filled in that a test does not care about."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert, select

from taurine.ledger.completions import Completion
from taurine.ledger.endings import Ending
from taurine.ledger.fences import fence_of
from taurine.ledger.records import NewRecord
from taurine.ledger.schema import job
from taurine.ledger.starts import Start

__all__ = ["NOW", "completion", "ending", "insert_raw", "new_record", "row_of", "start"]

NOW = 1_780_000_000_000
"""Milliseconds since the epoch: any time will do."""

FIRST = fence_of(0, 1)


def new_record(id_: str = "a", **given: Any) -> NewRecord:
    filled: dict[str, Any] = {
        "id": id_,
        "type": "mail.send",
        "queue": "mail",
        "payload": '{"to":"ann"}',
        "created_at": NOW,
        "max_attempts": 3,
    }
    return NewRecord(**(filled | given))


def completion(id_: str = "a", *, fence: int = FIRST, at: int = NOW + 20, **given: Any) -> Completion:
    filled: dict[str, Any] = {"attempts": 1, "output": '{"sent":true}', "worker": "w1", "started_at": NOW + 10}
    return Completion(id=id_, fence=fence, at=at, **(filled | given))


def ending(id_: str = "a", status: Any = "retrying", *, fence: int = FIRST, at: int = NOW + 20, **given: Any) -> Ending:
    filled: dict[str, Any] = {"attempts": 1, "worker": "w1", "started_at": NOW + 10}
    if status in ("failed", "retrying"):
        filled |= {"error": '{"type":"ValueError","message":"no"}', "error_fingerprint": "f1"}
    return Ending(id=id_, fence=fence, at=at, status=status, **(filled | given))


def start(id_: str = "a", *, fence: int = FIRST, at: int = NOW + 10) -> Start:
    return Start(id=id_, fence=fence, attempts=0, worker="w1", started_at=at, at=at)


def insert_raw(connection: Connection, **given: Any) -> None:
    """A row just as it is said, past every function that would know better."""
    filled: dict[str, Any] = {
        "id": "a",
        "type": "mail.send",
        "queue": "mail",
        "status": "queued",
        "max_attempts": 3,
        "payload": "{}",
        "created_at": NOW,
        "updated_at": NOW,
    }
    connection.execute(insert(job), filled | given)


def row_of(connection: Connection, id_: str = "a") -> dict[str, Any]:
    return dict(connection.execute(select(job).where(job.c.id == id_)).one()._mapping)
