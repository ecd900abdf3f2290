"""What follows from a finding: pending, firing, over. Without any I/O, and with the time handed in."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from taurine.jobs.reporting.alerts import Alert, AlertState
from taurine.jobs.reporting.lines import one_line
from taurine.ledger.alerts import AlertRow
from taurine.observe.alerts.rule import EventRule, Finding, LimitRule

__all__ = ["after_event", "after_finding", "after_quiet", "alert_in", "subject_of"]


def after_finding(rule: LimitRule, row: AlertRow | None, found: Finding, now: int, application: str) -> AlertRow | None:
    """The row that follows; None where its state stays as it is. now: ms since the epoch.

    It is raised once it has been above the limit for as long as the rule says, and is over at or below the lower limit.
    In between it stays as it is; what is pending begins anew.
    """
    above = found.value > rule.limit
    if row is None or row.state == "over":
        if not above:
            return None
        fresh = _fresh(rule.key, found.subject, now, row)
        said = _alert(rule, fresh, found, application, state="raised", message=found.text)
        fresh = replace(fresh, value=found.value, alert=json.dumps(said._asdict()))
        return _raised(rule, fresh, found, now, application) if rule.for_ms == 0 else fresh
    if row.state == "pending":
        if not above:
            # It was never told, so nobody is told of its end.
            return replace(row, state="over", value=found.value, since=now, seen_at=now)
        if not rule.is_one_stretch(now - row.seen_at):
            return replace(row, value=found.value, since=now, seen_at=now)
        return _raised(rule, row, found, now, application) if now - row.since >= rule.for_ms else None
    if found.value <= rule.over_at:
        return _over(rule, row, found, now, application)
    if _is_to_be_repeated(row, rule.every_ms, now):
        alert = _alert(rule, row, found, application, state="lasting", message=_lasting_text(rule, found))
        return _to_be_told(row, alert, now, value=found.value)
    return None


def after_event(rule: EventRule, row: AlertRow | None, alert: Alert, now: int) -> AlertRow | None:
    """The row that follows an event; None where it is one more of those that were told."""
    if row is not None and row.state == "firing" and now - row.seen_at < rule.quiet_ms:
        return None
    fresh = replace(_fresh(rule.key, subject_of(alert), now, row), state="firing", value=1.0, raised_at=now)
    said = alert._replace(severity=rule.severity, rule=rule.key, value=1.0)
    return _to_be_told(fresh, _of(fresh, said), now, value=1.0)


def after_quiet(rule: EventRule, row: AlertRow, now: int) -> AlertRow | None:
    """The row that follows when no event came. Of the end of events nobody is told: what has happened is not over.

    Whom the event itself has not reached, it still does.
    """
    if row.state != "firing":
        return None
    if now - row.seen_at >= rule.quiet_ms:
        return replace(row, state="over", since=now)
    has_more = row.notified_at is not None and row.seen_at > row.notified_at
    if has_more and _is_to_be_repeated(row, rule.every_ms, now):
        alert = alert_in(row)
        return _to_be_told(row, alert._replace(state="lasting", value=row.value), now, value=row.value)
    return None


def subject_of(alert: Alert) -> str:
    """What events are told together by: those of a job type in a queue, unless they name a subject.

    A forged job may say of itself what it likes, so there it is the queue alone.
    """
    subject = alert.subject or (alert.queue if alert.kind == "forged_job" else f"{alert.queue}/{alert.job_type}")
    # As both databases hold it.
    return one_line(subject).encode(errors="replace").decode()


def alert_in(row: AlertRow) -> Alert:
    """What is told of a row."""
    return Alert(**json.loads(row.alert))


def _fresh(rule: str, subject: str, now: int, before: AlertRow | None) -> AlertRow:
    return AlertRow(
        rule=rule,
        subject=subject,
        state="pending",
        value=0.0,
        since=now,
        seen_at=now,
        version=0 if before is None else before.version,
    )


def _raised(rule: LimitRule, row: AlertRow, found: Finding, now: int, application: str) -> AlertRow:
    raised = replace(row, state="firing", since=now, raised_at=now)
    alert = _alert(rule, raised, found, application, state="raised", message=_raised_text(rule, found))
    return _to_be_told(raised, alert, now, value=found.value)


def _over(rule: LimitRule, row: AlertRow, found: Finding, now: int, application: str) -> AlertRow:
    over = replace(row, state="over", since=now)
    return _to_be_told(
        over,
        _alert(rule, over, found, application, state="over", message=f"over: {found.text}"),
        now,
        value=found.value,
    )


def _to_be_told(row: AlertRow, alert: Alert, now: int, *, value: float) -> AlertRow:
    told = json.dumps(alert._asdict())
    return replace(row, value=value, seen_at=now, due_at=now, notified_at=None, tries=0, reached=(), alert=told)


def _alert(
    rule: LimitRule, row: AlertRow, found: Finding, application: str, *, state: AlertState, message: str
) -> Alert:
    return _of(
        row,
        Alert(
            rule.kind,
            "",
            "",
            found.queue,
            None,
            message,
            state=state,
            severity=rule.severity,
            rule=rule.key,
            value=found.value,
            limit=rule.limit,
            application=application,
        ),
    )


def _of(row: AlertRow, alert: Alert) -> Alert:
    raised_at = row.since if row.raised_at is None else row.raised_at
    number = hashlib.sha256(f"{row.rule}\n{row.subject}\n{raised_at}".encode(errors="replace")).hexdigest()[:16]
    return alert._replace(subject=row.subject, raised_at=raised_at / 1000, id=number)


def _is_to_be_repeated(row: AlertRow, every_ms: int | None, now: int) -> bool:
    return every_ms is not None and row.notified_at is not None and now - row.notified_at >= every_ms


def _raised_text(rule: LimitRule, found: Finding) -> str:
    # Of what may not be at all, "more than 0" says nothing.
    text = f"{found.text}, more than {_shown(rule.limit)}" if rule.limit else found.text
    return _with_remedy(text, found)


def _lasting_text(rule: LimitRule, found: Finding) -> str:
    text = f"{found.text}, still above {_shown(rule.over_at)}" if rule.over_at else f"still: {found.text}"
    return _with_remedy(text, found)


def _with_remedy(text: str, found: Finding) -> str:
    return f"{text}; {found.remedy}" if found.remedy else text


def _shown(limit: float) -> str:
    return f"{limit:,g}"
