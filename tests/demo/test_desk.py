"""The demo's support desk without a queue: its texts, its pipeline, its export."""

from __future__ import annotations

import ast
import csv
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from taurine.demo.exporting import Export, export_tickets
from taurine.demo.mailing import Receipt
from taurine.demo.office import Office
from taurine.demo.texts import Text, texts
from taurine.demo.tickets import Tickets
from taurine.demo.triage import Notified, TicketNumber, category_of, letter_name, triage
from taurine.errors import Cancel
from taurine.jobs.handler.context import Context
from taurine.jobs.handler.detached import DetachedContext

TEXTS = [Text(f"ticket {at}", f"The file of ticket {at} cannot be read from disk.") for at in range(1, 8)]


class NoMail:
    """A mailer that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    def send_once(self, ctx: Context, name: str, *, to: str, subject: str, body: str) -> Receipt:
        self.sent.append((name, to))
        return Receipt(message_id=name)

    def close(self) -> None: ...


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.tickets.open_desk(TEXTS)
    office.__dict__["mailer"] = NoMail()
    yield office
    office.close()


def test_texts_are_real_and_always_the_same() -> None:
    found = texts(300)

    assert found == texts(300)
    assert len(found) == 300
    assert len({text.subject.partition(".")[0] for text in found}) > 10, "of many subjects"
    module, body = next(
        (text.subject.partition(":")[0], text.body) for text in found if "." not in text.subject.partition(":")[0]
    )
    source = Path(sysconfig.get_path("stdlib"), f"{module}.py")
    assert body == ast.get_docstring(ast.parse(source.read_bytes()))


def test_no_module_is_imported_for_its_text() -> None:
    before = set(sys.modules)
    texts(500)

    assert set(sys.modules) <= before


def test_words_decide_the_category() -> None:
    assert category_of("Open the file at this path and read its directory.") == ("files", False)
    assert category_of("The socket's server failed to answer the client.") == ("network", True)
    assert category_of("Nothing of that kind.") == ("other", False)


async def test_the_pipeline_runs_right_here(office: Office) -> None:
    """SEED-048: without a queue, a record or a worker. SEED-047: each stage moves the progress."""
    ctx = DetachedContext(deps=office)
    result = await triage.run(TicketNumber(number=3), ctx)

    assert result == Notified(number=3, team="files@desk.example", letter=Receipt(message_id="triage.3"))
    assert office.tickets.teams() == {3: "files@desk.example"}
    assert office.__dict__["mailer"].sent == [(letter_name(3), "files@desk.example")]
    assert [line.message.split("'")[1] for line in ctx.lines] == ["load", "classify", "route", "notify"]
    assert ctx.progress_value is not None
    assert ctx.progress_value["percentage"] == 100


async def test_the_poison_cannot_be_loaded_until_it_is_mended(office: Office) -> None:
    office.tickets.garble(5)
    with pytest.raises(UnicodeDecodeError) as caught:
        await triage.run(TicketNumber(number=5), DetachedContext(deps=office))
    assert "in stage 'load'" in caught.value.__notes__[0]
    assert office.tickets.teams() == {}

    office.tickets.mend(5)
    assert (await triage.run(TicketNumber(number=5), DetachedContext(deps=office))).team


def routed(tickets: Tickets, *numbers: int) -> None:
    for number in numbers:
        tickets.route(number, category="files", team="files@desk.example", urgent=False)


def written(office: Office) -> list[int]:
    with (office.places.exports / "all.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["number"]) for row in csv.DictReader(file)]


class PowerCut(Exception):
    """What ends an attempt between two saves."""


@pytest.mark.parametrize("saves", range(5))
def test_an_export_goes_on_where_it_was_cut_off(office: Office, saves: int) -> None:
    """SEED-208, 210, 266: the last page is short; each ticket has one line, and the export one row, wherever the first
    attempt ends.
    """
    routed(office.tickets, 3, 1, 2, 7, 5, 6, 4)
    order, left = Export(name="all", page=2), saves

    def cut(point: str) -> None:
        nonlocal left
        if point != "before a save":
            return
        if not left:
            raise PowerCut
        left -= 1

    first = DetachedContext(job_id="export:all", deps=office, at=cut)
    if saves < 4:
        with pytest.raises(PowerCut):
            export_tickets(order, first)
    else:
        export_tickets(order, first)
    second = DetachedContext(job_id="export:all", deps=office, attempt=2, state=first.saved_state)
    result = export_tickets(order, second)

    assert written(office) == [3, 1, 2, 7, 5, 6, 4]
    assert result.tickets == 7
    assert result.resumed_at == min(saves * 2, 7)
    assert office.tickets.exports() == {"export:all": 7}


def test_an_export_of_nothing_is_an_empty_file(tmp_path: Path) -> None:
    """SEED-206."""
    office = Office(tmp_path)
    office.tickets.open_desk([])
    result = export_tickets(Export(name="all"), DetachedContext(deps=office))
    office.close()

    assert result.tickets == 0
    assert (tmp_path / "exports" / "all.csv").read_text() == ""


def test_an_export_that_waits_for_tickets_hears_a_cancel(office: Office) -> None:
    routed(office.tickets, 1)
    ctx = DetachedContext(deps=office)
    ctx.cancel("no longer needed")
    with pytest.raises(Cancel):
        export_tickets(Export(name="all", page=2), ctx)
