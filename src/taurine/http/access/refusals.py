"""Callers who are refused again and again: operators hear of it, once for each, and of no more than a few however many
there are.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.lines import one_line

if TYPE_CHECKING:
    from taurine.app import Taurine

__all__ = ["KIND", "OTHERS", "WRONG_KEYS", "Refusals"]

log = logging.getLogger("taurine.access")

KIND = "access_refused"

WRONG_KEYS = "API keys that are unknown or over"
"""Who shows one is nobody that is known: all of them are one subject."""

OTHERS = "other callers"

_LIMIT = 10
"""Refusals in a window of which operators hear: a click on what one may not do is none of their affair."""

_WINDOW = 300.0

_MOST_COUNTED = 1000
"""Callers that are counted by name in a window."""

_MOST_TOLD = 10
"""Callers of whom operators hear by name within `_SILENCE`. Names can be had for nothing where the host's own login
gives them out.
"""

_SILENCE = 3600.0
"""Seconds in which nobody is told of the same caller twice."""

_LONGEST = 500


class Refusals:
    """What one process has refused of late.

    An alert goes the way of workers' alerts: to the hook, and by the rules of events to the sinks.
    """

    def __init__(self, app: Taurine) -> None:
        self._app = app
        self._counts: dict[str, int] = {}
        self._counts_since = app.clock.monotonic()
        self._told: set[str] = set()
        self._told_since = self._counts_since
        self._telling: set[asyncio.Task[None]] = set()

    def note(self, name: str, tenant: str | None, error: Exception) -> None:
        """Count a refusal of a caller, and tell of it when it is one too many. Nobody waits for that."""
        now = self._app.clock.monotonic()
        if now - self._counts_since >= _WINDOW:
            self._counts_since = now
            self._counts.clear()
        if name not in self._counts and len(self._counts) >= _MOST_COUNTED:
            name, tenant = OTHERS, None
        self._counts[name] = self._counts.get(name, 0) + 1
        if self._counts[name] == _LIMIT:
            self._tell(name, tenant, error, now)

    def _tell(self, name: str, tenant: str | None, error: Exception, now: float) -> None:
        if now - self._told_since >= _SILENCE:
            self._told_since = now
            self._told.clear()
        if name not in self._told and len(self._told) >= _MOST_TOLD:
            name, tenant = OTHERS, None
        if name in self._told:
            return
        self._told.add(name)
        # A name may be an address.
        shown = one_line(self._app.redact.text(name))[:_LONGEST]
        message = f"{shown!r} was refused {_LIMIT} times within {_WINDOW:g} s, the last time with: {error}"[:_LONGEST]
        log.warning("%s", one_line(self._app.redact.text(message)))
        alert = Alert(KIND, "", "", "", tenant, message, severity="warning", subject=shown)
        task = asyncio.get_running_loop().create_task(self._app.tell_alert(alert), name="taurine access refused")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
