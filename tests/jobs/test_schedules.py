"""What the code declares of schedules: by a decorator, checked where it stands, and without touching a server."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from taurine.app import Taurine
from taurine.errors import AlreadyDeclared, CatalogError, InvalidName, InvalidOption, ScheduleNotFound
from taurine.ids import run_of
from taurine.jobs.catalog.without_payload import NoPayload
from taurine.jobs.handler.context import Context
from taurine.testing import TestClock

Factory = Callable[..., Taurine]

FRIDAY = datetime(2026, 3, 27, 6, 50, tzinfo=UTC)
"""In Berlin 07:50; two days later clocks go forward there."""


class Window(BaseModel):
    days: int = 1


class Parts(BaseModel):
    first: str
    second: str = "daily-report"
    third: int = 1_773_198_000_000


async def nothing(ctx: Context) -> None:
    pass


def _shown(times: list[datetime]) -> list[str]:
    return [f"{time:%a %d %H:%M}" for time in times]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("0 3 * * *", ["Sat 28 03:00", "Sun 29 03:00", "Mon 30 03:00", "Tue 31 03:00"]),
        ("0 8 * * 1-5", ["Fri 27 08:00", "Mon 30 08:00", "Tue 31 08:00", "Wed 01 08:00"]),
        ("*/15 * * * *", ["Fri 27 07:00", "Fri 27 07:15", "Fri 27 07:30", "Fri 27 07:45"]),
        ("30 0 7 * * *", ["Fri 27 07:00", "Sat 28 07:00", "Sun 29 07:00", "Mon 30 07:00"]),
    ],
)
def test_the_next_times_of_a_pattern(app_factory: Factory, pattern: str, expected: list[str]) -> None:
    """SEED-140: the table of next runs, with five fields and with six."""
    app = app_factory(clock=TestClock(FRIDAY.timestamp()))
    app.cron(pattern, id="tick")(nothing)

    assert _shown(app.schedules.next_runs("tick", 4)) == expected


@pytest.mark.parametrize(
    ("day", "hours"), [(datetime(2026, 3, 28, 12, tzinfo=UTC), 23), (datetime(2026, 10, 24, 12, tzinfo=UTC), 25)]
)
def test_a_day_has_23_or_25_hours_where_the_clocks_change(app: Taurine, day: datetime, hours: int) -> None:
    """SEED-203, SEED-269: the zone is the schedule's own, whatever that of the machine is."""
    app.cron("0 0 * * *", tz="Europe/Berlin", id="daily-report")(nothing)

    first, second = app.schedules.next_runs("daily-report", 2, after=day)

    assert (first.hour, second.hour) == (0, 0)
    assert (second.astimezone(UTC) - first.astimezone(UTC)) == timedelta(hours=hours)


def test_an_interval_is_counted_from_1970(app: Taurine) -> None:
    app.job("usage.roll-over", every=timedelta(minutes=20))(nothing)

    assert _shown(app.schedules.next_runs("usage.roll-over", 3, after=FRIDAY)) == [
        "Fri 27 07:00",
        "Fri 27 07:20",
        "Fri 27 07:40",
    ]


def test_declaring_creates_nothing(app: Taurine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-280: a test may import the module that declares schedules.

    No loop runs here, so that no server could be asked.
    """

    def opened(*_: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr("socket.socket.connect", opened)
    app.cron("0 3 * * *", id="daily-report")(nothing)
    app.job("usage.roll-over", every=60.0)(nothing)
    app.declare("usage.report", Window, every=60.0)

    assert [path.name for path in tmp_path.iterdir()] == ["taurine.db"], "the test's own"


@pytest.mark.parametrize(
    ("pattern", "tz", "message"),
    [
        ("61 3 * * *", "UTC", "schedule 'tick': cron minute '61' is not within 0-59"),
        (
            "0 3 * * fry",
            "UTC",
            "schedule 'tick': cron day of week 'fry' is not within 0-7 or sun to sat; did you mean 'fri'",
        ),
        ("0 3 * *", "UTC", "expected 5 fields"),
        ("", "UTC", "expected pattern to be text"),
        ("0 3 * * *", "Europe/Berln", "unknown time zone 'Europe/Berln'.* did you mean 'Europe/Berlin'"),
    ],
)
def test_a_pattern_or_a_zone_that_cannot_be_is_an_error_at_import(
    app: Taurine, pattern: str, tz: str, message: str
) -> None:
    with pytest.raises(InvalidOption, match=message):
        app.cron(pattern, tz=tz, id="tick")(nothing)
    app.cron("0 3 * * *", id="tick")(nothing)  # nothing was declared before


def test_two_schedules_of_one_id_are_an_error(app: Taurine) -> None:
    """SEED-141: an id stands for one schedule."""
    report = app.cron("0 3 * * *", id="daily-report")(nothing)

    with pytest.raises(AlreadyDeclared, match="schedule 'daily-report' is declared already"):
        app.cron("0 4 * * *")(report)
    with pytest.raises(AlreadyDeclared, match="'daily-report' is declared already"):
        app.cron("0 4 * * *", id="daily-report")(nothing)
    with pytest.raises(AlreadyDeclared, match="schedule 'daily-report' is declared already"):
        app.job("usage.roll-over", every=60.0, id="daily-report")(nothing)


def test_a_declaration_that_raises_declares_nothing(app: Taurine) -> None:
    """Neither a job type without its schedule nor a schedule without its job type."""
    app.cron("0 3 * * *", id="daily-report")(nothing)
    app.declare("usage.report", Window)

    with pytest.raises(AlreadyDeclared, match="schedule 'daily-report' is declared already"):
        app.declare("usage.roll-over", Window, every=60.0, id="daily-report")
    with pytest.raises(AlreadyDeclared, match=r"job type 'usage\.report' is declared already"):
        app.declare("usage.report", Window, every=60.0, id="hourly-report")

    assert [job_type.name for job_type in app.catalog] == ["daily-report", "usage.report"]
    app.declare("usage.roll-over", Window, every=60.0, id="hourly-report")


def test_a_pattern_and_an_interval_exclude_each_other(app: Taurine) -> None:
    options: Any = {"every": 60.0}
    with pytest.raises(InvalidOption, match="every is no option of `cron`"):
        app.cron("0 3 * * *", id="daily-report", **options)
    assert len(app.catalog) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every"),
        ({"every": timedelta(seconds=-1)}, "every"),
        ({"id": "roll-over"}, "names the schedule of `every`, which is not given; a job's own id is job_id"),
        ({"evry": 60.0}, "unknown option 'evry' of a job type; did you mean 'every'"),
    ],
)
def test_a_wrong_interval_is_an_error_at_import(app: Taurine, options: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        app.job("usage.roll-over", **options)(nothing)


@pytest.mark.parametrize("schedule_id", ["", "a\nb", "daily:1767229200000"])
def test_an_id_that_cannot_be_stored_is_an_error_at_import(app: Taurine, schedule_id: str) -> None:
    declared = app.job("usage.roll-over")(nothing)
    with pytest.raises(InvalidName):
        app.cron("0 3 * * *", id=schedule_id)(declared)


def test_a_payload_needs_a_default_for_each_field(app: Taurine) -> None:
    """SEED-054: nobody gives a tick a payload."""

    class Export(BaseModel):
        customer: str

    with pytest.raises(CatalogError, match=r"needs a default for each field.*customer"):
        app.declare("customer.export", Export, every=60.0)
    with pytest.raises(CatalogError, match="needs a default for each field"):

        @app.cron("0 3 * * *", id="counting")
        async def counting(number: int) -> None:
            pass


async def test_the_handler_can_still_be_called_as_the_function_that_it_is(app: Taurine) -> None:
    """With the context alone, or, as every other handler, with a payload before it."""

    @app.cron("0 3 * * *", id="daily-report")
    async def report(ctx: Context) -> str:
        return f"report {ctx}"

    @app.cron("0 3 * * *", id="weekly-report")
    def weekly(window: Window) -> int:
        return window.days

    @app.cron("0 3 * * *", id="nightly-sweep")
    async def sweep() -> str:
        return "swept"

    assert (await sweep(), await sweep(NoPayload(), "a context")) == ("swept", "swept")
    assert await report("a context") == "report a context"
    assert await report(NoPayload(), "a context") == "report a context"
    assert weekly(Window(days=7)) == 7


def test_without_an_id_the_function_names_the_schedule(app: Taurine) -> None:
    @app.cron("0 3 * * *")
    async def daily_report(ctx: Context) -> None:
        pass

    assert daily_report.name == "daily_report"
    assert app.schedules.next_runs("daily_report", 1)


def test_a_job_type_can_have_several_schedules(app: Taurine) -> None:
    """SEED-201, in its other form: one type, and a schedule for each rhythm."""
    report = app.declare("report.build", Window, queue="reports")
    app.cron("0 7 * * *", id="daily", description="for the desk")(report)
    app.cron("0 7 * * 1", id="weekly")(report)

    assert len(app.schedules.next_runs("daily", 2)) == len(app.schedules.next_runs("weekly", 2)) == 2
    with pytest.raises(InvalidOption, match=r"the job type 'report.build' has its options already: queue"):
        app.cron("0 7 1 * *", id="monthly", queue="other")(report)


def test_a_schedule_that_is_not_declared_has_no_times(app: Taurine) -> None:
    app.cron("0 3 * * *", id="daily-report")(nothing)

    with pytest.raises(ScheduleNotFound, match="did you mean 'daily-report'") as caught:
        app.schedules.next_runs("daily-reprot")
    assert caught.value.schedule_id == "daily-reprot"
    with pytest.raises(InvalidOption, match="aware datetime"):
        app.schedules.next_runs("daily-report", after=datetime(2026, 1, 1))  # noqa: DTZ001 - the naive one is the point


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("0 3 * * *", "at 03:00, every day"),
        ("0 8 * * 1-5", "at 08:00, Monday through Friday"),
        ("*/15 * * * *", "every 15 minutes"),
        ("@daily", "at 00:00, every day"),
        ("0 9 ? * 5L", "at 09:00, on the last Friday of the month"),
        ("15 30 7 * * *", "at 07:30:15, every day"),
        ("5 * * * *", "at 5 minutes past the hour"),
    ],
)
async def test_a_pattern_is_shown_in_words_beside_its_description(app: Taurine, pattern: str, text: str) -> None:
    """SEED-183, and SEED-287: what a schedule is for is a field of its own, shown with it."""
    app.cron(pattern, id="tick", description="what the desk reads at breakfast")(nothing)

    (info,) = await app.schedules.list()

    assert (info.pattern, info.text, info.description) == (pattern, text, "what the desk reads at breakfast")


@pytest.mark.parametrize(
    ("every", "text"),
    [(60, "every minute"), (5400, "every 90 minutes"), (86_400, "every day"), (1.5, "every 1,500 milliseconds")],
)
async def test_an_interval_is_shown_in_words(app: Taurine, every: float, text: str) -> None:
    app.job("usage.roll-over", every=every)(nothing)

    (info,) = await app.schedules.list()

    assert (info.every, info.text) == (every, text)


async def test_no_request_takes_the_place_of_a_tick(app: Taurine) -> None:
    """What it asks for would be the tick's record, and its moment would pass."""
    send = app.declare("mail.send", int)

    with pytest.raises(InvalidName, match="is reserved"):
        await send.enqueue(1, job_id="repeat:daily-report:1773198000000")
    assert [record async for record in app.list()] == []


@pytest.mark.parametrize(
    ("template", "first"),
    [("{first}:{second}:{third}", "repeat"), ("{first}", "repeat:daily-report:1773198000000")],
)
async def test_no_template_makes_the_id_of_a_tick(app: Taurine, template: str, first: str) -> None:
    send = app.declare("mail.send", Parts, job_id=template)

    with pytest.raises(InvalidName, match="is reserved"):
        await send.enqueue(Parts(first=first))
    with pytest.raises(InvalidName, match="is reserved"):
        await send.enqueue_many([Parts(first="mail"), Parts(first=first)])
    assert [record async for record in app.list()] == []


@pytest.mark.parametrize(
    ("job_id", "expected"),
    [
        ("repeat:daily:1773198000000", ("daily", 1_773_198_000_000)),
        ("repeat:a:b:1773198000000", ("a:b", 1_773_198_000_000)),
        ("repeat:daily", None),
        ("repeat:daily:12", None),
        ("daily:1773198000000", None),
    ],
)
def test_a_tick_s_id_says_whose_it_is_and_when_it_is_due(job_id: str, expected: tuple[str, int] | None) -> None:
    assert run_of(job_id) == expected
