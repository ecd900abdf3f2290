"""The application's hook, `Taurine(on_alert=…)`."""

from __future__ import annotations

from taurine.jobs.reporting.alerts import Alert, Alerts

__all__ = ["HookSink"]


class HookSink:
    """Calls it as workers do: a plain function in a thread, one alert after the other, 5 s for each."""

    name = "on_alert"

    def __init__(self, hook: Alerts) -> None:
        self._hook = hook

    async def tell(self, alert: Alert) -> None:
        await self._hook.call_hook(alert)
