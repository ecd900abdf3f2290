"""What operators must hear of at once, and the hook that an application gives for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from taurine.jobs.lines import log, one_line
from taurine.jobs.redaction import Redact

__all__ = ["Alert", "Alerts", "OnAlert"]


class Alert(NamedTuple):
    """kind: "denied" (a permission or tenant mismatch in a worker), "dead_letter", "dead_letters_depth" (too many of one queue), "forged_job"."""

    kind: str
    job_id: str
    job_type: str
    queue: str
    tenant: str | None
    message: str


OnAlert: TypeAlias = Callable[[Alert], "Awaitable[None] | None"]

_PATIENCE = 5.0


class Alerts:
    """Tells the application's hook; one that fails is logged and disturbs nothing.

    redact: what log lines must not show; the hook is told all. patience: seconds that the hook may take; a job waits for it. Default: 5.
    """

    def __init__(
        self, on_alert: OnAlert | None, *, redact: Redact = Redact.DEFAULT, patience: float = _PATIENCE
    ) -> None:
        self._on_alert = on_alert
        self._redact = redact
        self._patience = patience

    async def raise_alert(self, alert: Alert) -> None:
        """Tell the hook, if there is one. Denied access is in the log as an error in any case."""
        job_id = one_line(self._redact.job_id(alert.job_id))
        if alert.kind == "denied":
            message = one_line(self._redact.text(alert.message))
            log.error(
                "denied: job %s (%s): %s",
                *(job_id, one_line(alert.job_type), message),
                extra={"job_id": job_id, "job_type": alert.job_type, "queue": alert.queue, "tenant": alert.tenant},
            )
        if self._on_alert is None:
            return
        try:
            async with asyncio.timeout(self._patience):
                answer = self._on_alert(alert)
                if inspect.isawaitable(answer):
                    await answer
        except Exception:  # noqa: BLE001 - the hook is the application's code, and may do anything
            log.exception("the alert hook failed for the alert %s of job %s", alert.kind, job_id)
