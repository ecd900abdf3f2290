"""What operators must hear of at once, and the hook that an application gives for it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Literal, NamedTuple, TypeAlias

from taurine.jobs.reporting.lines import log, one_line, unrun_fields
from taurine.jobs.reporting.redaction import Redact

__all__ = ["Alert", "AlertState", "Alerts", "OnAlert", "RecordAlert", "Severity"]

AlertState: TypeAlias = Literal["raised", "lasting", "over"]
Severity: TypeAlias = Literal["warning", "error", "critical"]


class Alert(NamedTuple):
    """What somebody must hear of: something that happened to a job, or a figure that has passed its limit.

    kind: of a job "denied" (a permission or tenant mismatch in a worker), "dead_letter", "poison" (its workers died
    under it, again and again), "forged_job", "undeclared_type" (jobs wait that no working process hands over); of a
    caller of the API "access_refused" (refused again and again); of a figure the kind of its rule, see
    `taurine.observe.alerts`. Those that are about no single job have an empty `job_id`, and what a figure is about is
    the `subject`: a queue, mostly. So is a caller.
    state: "raised", "lasting" for one that is told again, "over". value, limit: of a figure; of events that are told
    together, how many there were. raised_at: wall seconds.
    id: the same in all that is told of one alert, from "raised" to "over"; empty for what a worker tells its hook at
    once.
    """

    kind: str
    job_id: str
    job_type: str
    queue: str
    tenant: str | None
    message: str
    state: AlertState = "raised"
    severity: Severity = "error"
    rule: str = ""
    subject: str = ""
    value: float | None = None
    limit: float | None = None
    raised_at: float | None = None
    application: str = ""
    id: str = ""


OnAlert: TypeAlias = Callable[[Alert], "Awaitable[None] | None"]
"""A plain function is called in a thread, so that it may block; an async one on the worker's event loop."""

RecordAlert: TypeAlias = Callable[[Alert], Awaitable[None]]
"""Told of each alert before the hook is; see `taurine.observe.alerts`."""

_PATIENCE = 5.0

_MOST_WAITING = 1000
"""Alerts that wait for a slow hook. Who has not heard of a thousand will not be helped by one more."""


class Alerts:
    """Tells a worker's alerts to the application's hook, one after the other, behind the back of the jobs that raise
    them. A hook that fails is logged and disturbs nothing.

    redact: what log lines must not show; the hook is told all. patience: seconds that the hook may take for an alert.
    Default: 5.
    """

    def __init__(
        self,
        on_alert: OnAlert | None,
        *,
        redact: Redact = Redact.DEFAULT,
        patience: float = _PATIENCE,
    ) -> None:
        self._on_alert = on_alert
        self._record: RecordAlert | None = None
        self._redact = redact
        self._patience = patience
        self._turn = asyncio.Lock()
        self._telling: set[asyncio.Task[None]] = set()
        self._thread: ThreadPoolExecutor | None = None

    @property
    def has_hook(self) -> bool:
        return self._on_alert is not None

    def recorded_by(self, record: RecordAlert) -> None:
        """Have each alert told to `record` as well, before the hook, which may be slow."""
        self._record = record

    def raise_alert(self, alert: Alert) -> None:
        """Have the hook told, if there is one, by a task of its own; on the event loop alone.

        Denied access is in the log as an error in any case.
        """
        job_id = one_line(self._redact.job_id(alert.job_id))
        if alert.kind == "denied":
            message = one_line(self._redact.text(alert.message))
            log.error(
                "denied: job %s (%s): %s",
                *(job_id, one_line(alert.job_type), message),
                extra=unrun_fields(job_id, job_type=alert.job_type, queue=alert.queue, tenant=alert.tenant),
            )
        if self._on_alert is None and self._record is None:
            return
        if len(self._telling) >= _MOST_WAITING:
            log.error("the alert %s of job %s is dropped: %d wait for the hook", alert.kind, job_id, _MOST_WAITING)
            return
        # A task of its own for each, so that what the hook logs carries the job that it is about.
        task = asyncio.create_task(self._tell(alert, job_id), name="taurine alert")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Wait until the hook was told everything, or has had its patience once more; then the rest is dropped.

        Harmless when repeated.
        """
        if telling := set(self._telling):
            await asyncio.wait(telling, timeout=self._patience)
        if dropped := set(self._telling):
            log.error("%d alerts are dropped: the worker ends, and the hook was too slow for them", len(dropped))
            for task in dropped:
                task.cancel()
            await asyncio.wait(dropped)
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait=False, cancel_futures=True)

    async def call_hook(self, alert: Alert) -> None:
        """Have the hook told, if there is one, and wait for it.

        Raises what it raises, and TimeoutError where it takes too long.
        """
        if (on_alert := self._on_alert) is None:
            return
        async with self._turn, asyncio.timeout(self._patience):
            answer = on_alert(alert) if _is_async(on_alert) else await self._in_thread(on_alert, alert)
            if inspect.isawaitable(answer):
                await answer

    async def _tell(self, alert: Alert, job_id: str) -> None:
        try:
            if self._record is not None:
                await self._record(alert)
        except Exception:  # noqa: BLE001 - whatever it is, the hook is to be told
            log.exception("the alert %s of job %s could not be recorded", alert.kind, job_id)
        try:
            await self.call_hook(alert)
        except Exception:  # noqa: BLE001 - the hook is the application's code, and may do anything
            log.exception("the alert hook failed for the alert %s of job %s", alert.kind, job_id)

    async def _in_thread(self, on_alert: OnAlert, alert: Alert) -> Awaitable[None] | None:
        # One thread, and none of the loop's: a hook that hangs must not take one more with each alert.
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="taurine alerts")
        context = copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: context.run(on_alert, alert))


def _is_async(on_alert: OnAlert) -> bool:
    return inspect.iscoroutinefunction(on_alert) or inspect.iscoroutinefunction(getattr(on_alert, "__call__", None))  # noqa: B004 - of an object that is called
