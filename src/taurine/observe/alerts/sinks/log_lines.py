"""The log: it is told of every figure."""

from __future__ import annotations

import logging

from taurine.jobs.reporting.alerts import Alert, Severity
from taurine.jobs.reporting.lines import log, one_line

__all__ = ["LogSink"]

_LEVELS: dict[Severity, int] = {"warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


class LogSink:
    """A line for each, in the logger of jobs. What is over is told as information."""

    name = "log"

    async def tell(self, alert: Alert) -> None:
        level = logging.INFO if alert.state == "over" else _LEVELS[alert.severity]
        fields = {"alert": alert.rule, "queue": alert.queue, "value": alert.value, "limit": alert.limit}
        log.log(level, "alert %s: %s", one_line(alert.rule), one_line(alert.message), extra=fields)
