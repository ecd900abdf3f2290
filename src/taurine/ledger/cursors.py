"""How far the event streams of shared queues were read."""

from __future__ import annotations

from sqlalchemy import Connection, select, update

from taurine.errors import InvalidOption
from taurine.ledger.rows import insert_ignore
from taurine.ledger.schema import queue_cursor

__all__ = ["advance_cursor", "read_cursor"]


def read_cursor(connection: Connection, queue: str) -> str | None:
    """The id of the last event of this queue that was read, or None when none was."""
    return connection.execute(select(queue_cursor.c.last_id).where(queue_cursor.c.queue == queue)).scalar_one_or_none()


def advance_cursor(connection: Connection, queue: str, last_id: str, at: int) -> str:
    """Write that the events up to `last_id` were read; returns the id that stands then. at: now, ms since the epoch.

    It never goes back: of two followers the one behind changes nothing. Put it into the transaction of what the events
    changed, and each event counts once.
    Raises InvalidOption for an id that is none of an event stream, which are two whole numbers: `1700000000000-0`.
    """
    position = _position(last_id)
    row = {"queue": queue, "last_id": last_id, "updated_at": at}
    if connection.execute(insert_ignore(connection, queue_cursor), row).rowcount:
        return last_id
    mine = queue_cursor.c.queue == queue
    standing = connection.execute(select(queue_cursor.c.last_id).where(mine).with_for_update()).scalar_one()
    if position <= _position(standing):
        return standing
    connection.execute(update(queue_cursor).where(mine).values(last_id=last_id, updated_at=at))
    return last_id


def _position(event_id: str) -> tuple[int, int]:
    """The order of events; that of their ids as text is another."""
    milliseconds, _, number = event_id.partition("-")
    if not (milliseconds.isdecimal() and number.isdecimal()):
        raise InvalidOption(f"expected the id of an event such as '1700000000000-0', got {event_id!r:.40}")
    return int(milliseconds), int(number)
