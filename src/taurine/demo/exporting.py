"""The export of all tickets as CSV: a page at a time, with a cursor, so that another worker goes on where a dead one
was.
"""

from __future__ import annotations

import csv
import time
from typing import IO

from pydantic import BaseModel, Field

from taurine.demo.office import Office
from taurine.demo.tickets import Routed
from taurine.jobs.handler.context import Context

__all__ = ["Export", "Exported", "export_tickets"]

_PAUSE = 0.05
"""Seconds between two looks whether a page is there."""

_COLUMNS = ("number", "category", "team", "urgent", "subject")


class Export(BaseModel):
    """name: of the file, without its suffix. page: tickets that are written, and committed, together."""

    name: str = Field(pattern=r"^[a-z-]+$")
    page: int = Field(default=50, ge=1)


class Exported(BaseModel):
    """tickets: how many there are in the file. resumed_at: how many of them an earlier attempt had written."""

    path: str
    tickets: int
    resumed_at: int


def export_tickets(order: Export, ctx: Context) -> Exported:
    """Write all tickets, in the order in which they are routed, and wait for those that are not yet.

    The cursor is the place of the last ticket in that order, and with it the length of the file: what was written
    behind it is cut off, so no ticket stands there twice.
    """
    office: Office = ctx.deps
    path = office.places.exports / f"{order.name}.csv"
    path.parent.mkdir(exist_ok=True)
    state = ctx.state
    place, length, done = (state.get(name, 0) for name in ("place", "length", "done"))
    resumed_at, total = done, office.tickets.count()
    with path.open("a", encoding="utf-8", newline="") as file:
        file.truncate(length)
        while done < total:
            page = _next_page(office, ctx, place, min(order.page, total - done))
            _write(file, page, with_header=not done)
            place, length, done = page[-1].place, file.tell(), done + len(page)
            ctx.state = {"place": place, "length": length, "done": done}
            ctx.progress(done, total)
            ctx.save_sync()
    office.tickets.add_export(ctx.job_id, path, done)
    return Exported(path=str(path), tickets=done, resumed_at=resumed_at)


def _next_page(office: Office, ctx: Context, place: int, size: int) -> list[Routed]:
    while True:
        ctx.raise_if_cancelled()
        page = office.tickets.routed_after(place, size)
        if len(page) == size:
            return page
        time.sleep(_PAUSE)


def _write(file: IO[str], page: list[Routed], *, with_header: bool) -> None:
    rows = csv.writer(file)
    if with_header:
        rows.writerow(_COLUMNS)
    rows.writerows((one.number, one.category, one.team, int(one.urgent), _text(one.subject)) for one in page)
    file.flush()


def _text(written: str) -> str:
    """What customers write, which a spreadsheet must not take for a formula."""
    return f"'{written}" if written.startswith(("=", "+", "-", "@", "\t", "\r")) else written
