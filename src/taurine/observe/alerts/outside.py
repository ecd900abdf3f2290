"""Events outside of workers, such as refusals of the API: they have no watch behind them that would try again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from taurine.errors import LedgerUnavailable
from taurine.jobs.backend import Backend
from taurine.jobs.reporting.alerts import Alert, Alerts, OnAlert
from taurine.jobs.reporting.lines import log
from taurine.observe.alerts.recorder import EventRecorder
from taurine.observe.alerts.rule import AlertRule

__all__ = ["OutsideEvents"]

_PAUSE = 15.0
"""Seconds between two tries to write what waits for the ledger."""

_LAST_SECONDS = 1.0
"""Seconds that closing waits for the ledger."""


class OutsideEvents:
    """Tells the events of one event loop: the hook at once, the sinks by way of the ledger.

    What a ledger that is away does not take is kept, a thousand events at most, and written with the next event, or
    after 15 seconds and so on, until it is there or the process ends.
    """

    def __init__(
        self, backend: Backend, rules: Iterable[AlertRule], *, application: str, on_alert: OnAlert | None
    ) -> None:
        self._backend = backend
        self._on_alert = on_alert
        self._recorder = EventRecorder(
            rules,
            application=application,
            database=backend.database,
            redact=backend.redact,
            clock=backend.clock,
            woken=lambda: None,
        )
        self._trying: asyncio.Task[None] | None = None

    async def tell(self, alert: Alert) -> None:
        """Tell of an event; what fails is logged, and not raised."""
        self._recorder.keep(alert)
        # A ledger that is slow to say that it is away must not keep the hook waiting.
        await asyncio.gather(self._call_hook(alert), self._write_or_try_again())

    async def close(self) -> None:
        """Try once more to write what waits, for a second at most; what is lost then is logged."""
        trying, self._trying = self._trying, None
        if trying is not None:
            trying.cancel()
            await asyncio.wait({trying})
        if not self._recorder.waiting:
            return
        try:
            async with asyncio.timeout(_LAST_SECONDS):
                await self._write()
        except Exception as error:  # noqa: BLE001 - whatever it is, the rest is to be closed
            log.error("%d alerts are lost: the ledger did not take them: %r", self._recorder.waiting, error)

    async def _call_hook(self, alert: Alert) -> None:
        alerts = Alerts(self._on_alert, redact=self._backend.redact)
        alerts.raise_alert(alert)
        await alerts.close()

    async def _write_or_try_again(self) -> None:
        try:
            await self._write()
        except LedgerUnavailable as error:
            log.warning("%d alerts wait for the ledger: %s", self._recorder.waiting, error)
            self._try_again()
        except Exception:  # noqa: BLE001 - such as tables that were not migrated, which the next event may find there
            log.exception("%d alerts could not be recorded; they go with the next one", self._recorder.waiting)

    def _try_again(self) -> None:
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._keep_trying(), name="taurine alerts that wait")

    async def _keep_trying(self) -> None:
        while self._recorder.waiting:
            await self._backend.clock.sleep(_PAUSE)
            try:
                await self._write()
            except Exception as error:  # noqa: BLE001 - whatever it is, it may pass
                log.debug("alerts wait for the ledger: %s", error)

    async def _write(self) -> None:
        if self._recorder.waiting:
            await self._backend.ready()
            await self._recorder.write_waiting()
