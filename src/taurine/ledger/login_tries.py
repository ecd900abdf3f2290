"""How much a name and an address have tried to log in of late, as all processes know it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, select

from taurine.ledger.buckets import Bucket
from taurine.ledger.rows import upsert
from taurine.ledger.schema import login_try

__all__ = ["forget_tries", "note_try"]


def note_try(connection: Connection, buckets: Mapping[str, Bucket], now: int) -> int:
    """Take one from the bucket of each subject; returns 0, or the ms after which another try is allowed, and then
    nothing is taken.

    Of many at once, in any number of processes, no more pass than the buckets hold. What is full again is forgotten.
    now: ms since the epoch.
    """
    connection.execute(delete(login_try).where(login_try.c.expires_at < now))
    subjects = sorted(buckets)  # everybody takes them in one order
    # There is a row before it is read: two first tries at once would both find none.
    put = upsert(connection, login_try).on_conflict_do_nothing()
    for subject in subjects:
        connection.execute(put, {"subject": subject, "full_at": 0, "expires_at": now})
    rows = connection.execute(
        select(login_try.c.subject, login_try.c.full_at)
        .where(login_try.c.subject.in_(subjects))
        .order_by(login_try.c.subject)
        .with_for_update()
    )
    taken = {row.subject: buckets[row.subject].take(row.full_at, now) for row in rows}
    if wait := max(pause for _, pause in taken.values()):
        return wait
    for subject, (full_at, _) in taken.items():
        connection.execute(
            login_try.update()
            .where(login_try.c.subject == subject)
            .values(full_at=full_at, expires_at=buckets[subject].full_ms(full_at))
        )
    return 0


def forget_tries(connection: Connection, subject: str) -> None:
    """Let a subject have all its tries again."""
    connection.execute(delete(login_try).where(login_try.c.subject == subject))
