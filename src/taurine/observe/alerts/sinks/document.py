"""An alert as a document, for whoever is told by JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from taurine.jobs.reporting.alerts import Alert, AlertState, Severity

__all__ = ["AlertDocument", "document_of"]


class AlertDocument(TypedDict):
    """What a webhook is sent. `version` is 1; members may be added to it, and none is changed or taken away."""

    version: int
    id: str
    """The same from "raised" to "over". With `state` it tells a message that came twice."""
    application: str
    rule: str
    kind: str
    state: AlertState
    severity: Severity
    subject: str
    """What the rule looked at: a queue or a schedule; for events the queue and the job type, with a slash between them."""
    queue: str | None
    job_type: str | None
    job_id: str | None
    tenant: str | None
    value: float | None
    limit: float | None
    message: str
    """One sentence for people."""
    raised_at: str | None
    """ISO 8601, UTC."""


def document_of(alert: Alert) -> AlertDocument:
    """The document of an alert."""
    at = alert.raised_at
    return {
        "version": 1,
        "id": alert.id,
        "application": alert.application,
        "rule": alert.rule,
        "kind": alert.kind,
        "state": alert.state,
        "severity": alert.severity,
        "subject": alert.subject,
        "queue": alert.queue or None,
        "job_type": alert.job_type or None,
        "job_id": alert.job_id or None,
        "tenant": alert.tenant,
        "value": alert.value,
        "limit": alert.limit,
        "message": alert.message,
        "raised_at": None if at is None else datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z"),
    }
