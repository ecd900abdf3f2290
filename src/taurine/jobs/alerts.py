"""What operators must hear of at once, and the hook that an application gives for it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

__all__ = ["Alert", "Alerts", "OnAlert"]

log = logging.getLogger("taurine.jobs")


class Alert(NamedTuple):
    """kind: "denied" (a permission or tenant mismatch in a worker), "dead_letter", "forged_job"."""

    kind: str
    job_id: str
    job_type: str
    queue: str
    tenant: str | None
    message: str


OnAlert: TypeAlias = Callable[[Alert], "Awaitable[None] | None"]


class Alerts:
    """Tells the application's hook; one that fails is logged and disturbs nothing."""

    def __init__(self, on_alert: OnAlert | None) -> None:
        self._on_alert = on_alert

    async def raise_alert(self, alert: Alert) -> None:
        """Tell the hook, if there is one. Denied access is in the log as an error in any case."""
        if alert.kind == "denied":
            log.error(
                "denied: job %s (%s): %s", alert.job_id, alert.job_type, alert.message, extra={"job_id": alert.job_id}
            )
        if self._on_alert is None:
            return
        try:
            answer = self._on_alert(alert)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            log.exception("the alert hook failed for %s", alert)
