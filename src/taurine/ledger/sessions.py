"""The caller's own transaction, by way of its SQLAlchemy session: what is done in it, and hearing that it was
committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from taurine.ledger.database import Work, translated
from taurine.ledger.rows import is_postgresql

__all__ = ["run_in", "tell_after_commit"]

ResultT = TypeVar("ResultT")

_HOOK = "taurine.commit"
"""Where a session's `info` holds its hook."""

_TAKE_WRITE_LOCK = "UPDATE taurine_job SET id = id WHERE 0"


def run_in(session: Session, work: Work[ResultT], *, whole: bool) -> ResultT:
    """Run `work` in the transaction of `session`, in its thread.

    whole: if `work` raises, undo what it wrote, so that the caller may go on and commit the rest.
    Raises LedgerUnavailable and its kin for what the database raises, and what `work` raises.
    """
    connection = session.connection()
    try:
        if not is_postgresql(connection):
            # Work reads before it writes. A transaction of the caller's takes SQLite's write lock at its first write only, and another process could write
            # in between. It also makes the driver begin, without which a savepoint would be a transaction of its own.
            connection.exec_driver_sql(_TAKE_WRITE_LOCK)
        if not whole:
            return work(connection)
        with connection.begin_nested():
            return work(connection)
    except Exception as error:
        if (known := translated(error, connection.engine.url)) is error:
            raise
        raise known from error


def tell_after_commit(session: Session, tell: Callable[[], None]) -> None:
    """Call `tell` once when the transaction that `session` is in was committed, and not at all when it was rolled back."""
    hook = session.info.get(_HOOK)
    if hook is None:
        hook = session.info[_HOOK] = _CommitHook(session)
    hook.add(tell)


class _CommitHook:
    """What is to be told of the end of one session's transactions.

    It stays with its session: SQLAlchemy does not let a listener be removed by an event that it listens to, and one
    more of them for each transaction would add up.
    """

    def __init__(self, session: Session) -> None:
        self._told: dict[Callable[[], None], None] = {}
        event.listen(session, "after_commit", self._committed)
        event.listen(session, "after_transaction_end", self._ended)

    def add(self, tell: Callable[[], None]) -> None:
        self._told[tell] = None

    def _committed(self, session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint was released, and the transaction around it may still be rolled back
        told, self._told = self._told, {}
        for tell in told:
            tell()

    def _ended(self, _: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            self._told = {}
