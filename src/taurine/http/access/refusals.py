"""Callers who are refused again and again: operators hear of it, once for each, and of no more than a few however many
there are.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING

from taurine.http.access.ended_keys import EndedKeys
from taurine.http.access.subjects import WRONG_KEYS, Places, Subject
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.lines import one_line

if TYPE_CHECKING:
    from taurine.app import Taurine

__all__ = ["KIND", "Refusals"]

log = logging.getLogger("taurine.access")

KIND = "access_refused"

_LIMIT = 10
"""Refusals in a window of which operators hear: a click on what one may not do is none of their affair."""

_WINDOW = 300.0

_MOST_COUNTED = 1000
"""Callers that are counted by name in a window."""

_MOST_COUNTED_OF_A_TENANT = 100

_MOST_TOLD = 10
"""Callers of whom operators hear by name within `_SILENCE`. Names can be had for nothing where the host's own login
gives them out.
"""

_MOST_TOLD_OF_A_TENANT = 3
"""Less than `_MOST_TOLD`: with many names a tenant would hide what the others do."""

_SILENCE = 3600.0
"""Seconds in which nobody is told of the same caller twice."""

_LONGEST = 1000


class Refusals:
    """What one process has refused of late.

    An alert goes the way of workers' alerts: to the hook, and by the rules of events to the sinks.
    """

    def __init__(self, app: Taurine) -> None:
        self._app = app
        self._ended_keys = EndedKeys(app.api_keys, clock=app.clock)
        self._counts: Counter[Subject] = Counter()
        self._counted = Places(most=_MOST_COUNTED, of_a_tenant=_MOST_COUNTED_OF_A_TENANT)
        self._counts_since = app.clock.monotonic()
        self._told: set[Subject] = set()
        self._named = Places(most=_MOST_TOLD, of_a_tenant=_MOST_TOLD_OF_A_TENANT)
        self._told_since = self._counts_since
        self._telling: set[asyncio.Task[None]] = set()

    def note(self, name: str, tenant: str | None, error: Exception) -> None:
        """Count a refusal of a caller, and tell of it when it is one too many. Nobody waits for that.

        name: of who answers for the caller, see `Caller.answerable`.
        """
        self._note(Subject("caller", tenant, name), f"{error}")

    async def note_key(self, text: str, error: Exception) -> None:
        """The same of an API key: one of ours that is over by its name and id, so that who still uses it is found; all
        others are `WRONG_KEYS`. Nothing of the text itself is kept or told.
        """
        if (key := await self._ended_keys.find(text)) is None:
            self.note_unknown(WRONG_KEYS, error)
            return
        why = "it has expired" if key.revoked is None else "it was revoked"
        self._note(Subject("key", key.tenant, key.name, key.id), why)

    def note_unknown(self, what: str, error: Exception) -> None:
        """The same of somebody whom nobody knows, such as `WRONG_KEYS`: it has a place of its own at all times.

        what: one of a few constants; it is told as it is.
        """
        self._note(Subject("unknown", None, what), f"{error}")

    def _note(self, subject: Subject, why: str) -> None:
        self._forget()
        counted = self._counted.place(subject)
        self._counts[counted] += 1
        if self._counts[counted] != _LIMIT:
            return
        named = self._named.place(counted)
        if named not in self._told:
            self._told.add(named)
            self._tell(self._alert(named, why))

    def _forget(self) -> None:
        """Begin anew with what is over: the window of counts, the silence about who was told."""
        now = self._app.clock.monotonic()
        if now - self._counts_since >= _WINDOW:
            self._counts_since = now
            self._counts.clear()
            self._counted.clear()
        if now - self._told_since >= _SILENCE:
            self._told_since = now
            self._told.clear()
            self._named.clear()

    def _alert(self, subject: Subject, why: str) -> Alert:
        shown = subject.shown(self._app.redact)
        verb = "was" if subject.is_one else "were"
        message = f"{shown} {verb} refused {_LIMIT} times within {_WINDOW:g} s, the last time with: {why}"
        tenant = subject.tenant
        return Alert(KIND, "", "", "", tenant, message[:_LONGEST], severity="warning", subject=shown[:_LONGEST])

    def _tell(self, alert: Alert) -> None:
        log.warning("%s", one_line(self._app.redact.text(alert.message)))
        task = asyncio.get_running_loop().create_task(self._app.tell_alert(alert), name="taurine access refused")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
