"""What each rule of alerts finds of its subject, and who tells of it.

Any process may look, and any may tell. A change is written where the row is still as the writer has read it
(`version`), so that of many one wins, and the others see that they have not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, RowMapping, delete, or_, select, update

from taurine.ledger.rows import insert_ignore
from taurine.ledger.schema import alert

__all__ = [
    "AlertPhase",
    "AlertRow",
    "alert_of",
    "change_alert",
    "due_alerts",
    "list_alerts",
    "note_at_look",
    "noted_at_look",
    "purge_alerts",
    "refresh_alert",
    "take_look",
]

AlertPhase: TypeAlias = Literal["pending", "firing", "over"]

_LOOKS = ""
"""The rule under which it is noted when an application looked last. No rule has an empty name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """What a rule finds of a subject. Times in ms since the epoch.

    value: as it was found last; of events how many there were. since: when the state began. seen_at: when it was looked
    at, or heard of, last. raised_at: None for one that has not fired. notified_at: when all were told of the state.
    due_at: when it is to be told, by whoever changes the row first; None for no more. tries: that failed. reached: who
    was told already. alert: JSON, what is told.
    """

    rule: str
    subject: str
    state: AlertPhase
    value: float
    since: int
    seen_at: int
    raised_at: int | None = None
    notified_at: int | None = None
    due_at: int | None = None
    tries: int = 0
    reached: Sequence[str] = ()
    alert: str = "{}"
    version: int = 0


def take_look(connection: Connection, application: str, now: int, interval_ms: int) -> bool:
    """Whether this process is to look now: True for one in each interval, whoever asks first."""
    values: dict[str, Any] = _values(
        AlertRow(rule=_LOOKS, subject=application, state="over", value=0.0, since=now, seen_at=now)
    )
    if connection.execute(insert_ignore(connection, alert).values(values)).rowcount > 0:
        return True
    # A look of the future is one of a clock that was wrong.
    stale = or_(alert.c.since <= now - interval_ms, alert.c.since > now + interval_ms)
    statement = update(alert).where(*_is(_LOOKS, application), stale).values(since=now, seen_at=now)
    return connection.execute(statement).rowcount > 0


def noted_at_look(connection: Connection, application: str) -> str:
    """What `note_at_look` has written last; "{}" for nothing."""
    row = alert_of(connection, _LOOKS, application)
    return "{}" if row is None else row.alert


def note_at_look(connection: Connection, application: str, note: str) -> None:
    """Keep for whoever looks next, in whatever process, what was seen at this look: JSON. Only after `take_look`."""
    connection.execute(update(alert).where(*_is(_LOOKS, application)).values(alert=note))


def list_alerts(connection: Connection) -> list[AlertRow]:
    """All that is known, what was raised last first."""
    rows = connection.execute(
        select(alert).where(alert.c.rule != _LOOKS).order_by(alert.c.since.desc(), alert.c.rule, alert.c.subject)
    )
    return [_read(row) for row in rows.mappings()]


def alert_of(connection: Connection, rule: str, subject: str) -> AlertRow | None:
    """One of them."""
    row = connection.execute(select(alert).where(*_is(rule, subject))).mappings().one_or_none()
    return None if row is None else _read(row)


def due_alerts(connection: Connection, rules: Sequence[str], now: int, limit: int) -> list[AlertRow]:
    """What is to be told by now, ms since the epoch, of these rules, the first ones first."""
    due = select(alert).where(alert.c.due_at <= now, alert.c.rule.in_(rules))
    rows = connection.execute(due.order_by(alert.c.due_at, alert.c.rule, alert.c.subject).limit(limit))
    return [_read(row) for row in rows.mappings()]


def change_alert(connection: Connection, before: AlertRow | None, after: AlertRow) -> AlertRow | None:
    """Put `after` in the place of `before`; None for a row that is not there.

    Returns what is there now, or None where another was faster, whose word counts.
    """
    if before is None:
        statement = insert_ignore(connection, alert).values(_values(after))
        return after if connection.execute(statement).rowcount > 0 else None
    written = replace(after, version=before.version + 1)
    changed = update(alert).where(*_is(before.rule, before.subject), alert.c.version == before.version)
    return written if connection.execute(changed.values(_values(written))).rowcount > 0 else None


def refresh_alert(connection: Connection, row: AlertRow, *, value: float | None, at: int) -> None:
    """Note what was found of a row whose state stays as it is; nobody's change is in the way of it.

    value: None for one event more. at: ms since the epoch.
    """
    found = alert.c.value + 1 if value is None else value
    same = (*_is(row.rule, row.subject), alert.c.state == row.state)
    connection.execute(update(alert).where(*same).values(value=found, seen_at=at))


def purge_alerts(connection: Connection, before: int) -> int:
    """Remove what has been over since before a time, ms since the epoch, and what nobody has looked at since; returns
    how many.
    """
    gone = delete(alert).where(
        alert.c.rule != _LOOKS,
        or_(alert.c.seen_at < before, (alert.c.state == "over") & (alert.c.since < before)),
    )
    return connection.execute(gone).rowcount


def _is(rule: str, subject: str) -> tuple[Any, Any]:
    return alert.c.rule == rule, alert.c.subject == subject


def _values(row: AlertRow) -> dict[str, Any]:
    return asdict(row) | {"reached": json.dumps(list(row.reached))}


def _read(row: RowMapping) -> AlertRow:
    values: dict[str, Any] = {**row}
    values["reached"] = tuple(json.loads(row["reached"]))
    return AlertRow(**values)
