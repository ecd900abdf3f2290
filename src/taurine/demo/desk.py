"""The support desk as an application: its job types, as any program would declare them."""

from __future__ import annotations

import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel

from taurine.app import Taurine
from taurine.demo.exporting import Export, Exported, export_tickets
from taurine.demo.mailing import DOMAIN
from taurine.demo.office import Office
from taurine.demo.triage import Notified, TicketNumber, triage
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handler.context import Context
from taurine.retry import Exponential, Retry

__all__ = ["EXPORTS", "LEASE", "LOOKS", "REPORTS", "TRIAGE", "WATCHES", "Desk", "Watch", "report_name"]

TRIAGE, EXPORTS, REPORTS, WATCHES = "triage", "exports", "reports", "watches"

LEASE = 2.0
"""Seconds that a job stays with a worker that does not answer. A worker's default is 30: short here, so that one sees
the recovery.
"""

LOOKS = 1.0
"""Seconds between looks for such jobs, and for jobs that the queue has lost. The defaults are 30 and 10."""

_EACH_MORNING = "0 7 * * *"
_PAUSE = 0.02
"""Seconds between two looks of a watch."""


class Watch(BaseModel):
    """A watch over the desk, until somebody says that it is enough. name: of the watch."""

    name: str


class Desk:
    """The application in `home`, with everything embedded, whatever the environment's variables say.

    The report's times are those that the home says, else each morning.
    """

    def __init__(self, home: Path) -> None:
        self.office = Office(home)
        self.app = app = Taurine(
            "support-desk",
            home=home,
            redis_url="embedded",
            database_url="sqlite",
            prefix="bull",
            lease=LEASE,
            env="dev",
            deps=self.office,
        )
        self.triage: JobType[TicketNumber, Notified] = app.pipeline(
            triage,
            queue=TRIAGE,
            job_id="triage:{number}",
            retry=Retry(3, Exponential(0.2)),
            description="Finds the team that a ticket is for, and tells it.",
        )
        self.export: JobType[Export, Exported] = app.job(
            "ticket.export", queue=EXPORTS, job_id="export:{name}", retry=Retry.EXPORT
        )(export_tickets)
        self.watch: JobType[Watch, int] = app.job("desk.watch", queue=WATCHES, job_id="watch:{name}")(keep_watch)
        times = self.office.places.report_times
        pattern = times.read_text("ascii") if times.exists() else _EACH_MORNING
        self.report = app.cron(
            pattern, id="desk.report", queue=REPORTS, description="How many tickets each team has been given."
        )(write_report)


def keep_watch(watch: Watch, ctx: Context) -> int:
    """Look at the desk again and again; the looks so far are the result when the job is cancelled."""
    office: Office = ctx.deps
    looks = 0
    while not ctx.cancelled:
        looks = office.tickets.look(ctx.job_id)
        time.sleep(_PAUSE)
    return looks


def write_report(ctx: Context) -> str:
    """The report of one tick: named by the time it was to start, so that a repeat makes no second one."""
    office: Office = ctx.deps
    tick = ctx.scheduled_for or ctx.created_at
    teams = Counter(office.tickets.teams().values())
    body = "\n".join(f"{number:6} {team}" for team, number in teams.most_common()) or "no ticket yet"
    office.tickets.add_report(report_name(tick), body)
    office.mailer.send_once(ctx, report_name(tick), to=f"head@{DOMAIN}", subject=f"tickets until {tick}", body=body)
    return body


def report_name(tick: datetime) -> str:
    """What the report of a tick is called, for ever."""
    return f"report.{tick:%Y%m%dT%H%M%S}"
