"""BMQ-121, BMQ-122: cron patterns, without Node. `tests/interop/test_cron_table.py` compares with Node."""

from __future__ import annotations

import math
import time
from calendar import monthrange
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taurine.errors import InvalidOption
from taurine.queue.cron import ALIASES, CronPattern, next_fire, next_fire_ms


def fires(pattern: str, after: str, *, tz: str, count: int = 2) -> list[str]:
    """The next runs, as local times of the zone with their offset from UTC."""
    zone = ZoneInfo(tz)
    at = datetime.fromisoformat(after).replace(tzinfo=zone).timestamp()
    found: list[str] = []
    for _ in range(count):
        fire = next_fire(pattern, after=at, tz=tz)
        assert fire is not None
        at = fire
        found.append(datetime.fromtimestamp(at, zone).isoformat(timespec="minutes"))
    return found


class TestTimes:
    def test_the_answer_is_strictly_later(self) -> None:
        assert next_fire("* * * * *", after=0.0, tz="UTC") == 60.0
        assert next_fire("* * * * *", after=59.999, tz="UTC") == 60.0
        assert next_fire("* * * * *", after=60.0, tz="UTC") == 120.0

    def test_milliseconds_are_exact(self) -> None:
        noon_ms = 1_748_779_200_000

        assert next_fire_ms("0 12 * * *", after_ms=noon_ms - 1, tz="UTC") == noon_ms
        assert next_fire_ms("0 12 * * *", after_ms=noon_ms, tz="UTC") == noon_ms + 86_400_000

    def test_the_end_is_included(self) -> None:
        assert next_fire("* * * * *", after=0.0, tz="UTC", end=60.0) == 60.0
        assert next_fire("* * * * *", after=0.0, tz="UTC", end=59.999) is None
        assert next_fire_ms("* * * * *", after_ms=0, tz="UTC", end_ms=60_000) == 60_000
        assert next_fire_ms("* * * * *", after_ms=0, tz="UTC", end_ms=59_999) is None

    def test_a_pattern_may_be_read_once_and_used_often(self) -> None:
        pattern = CronPattern.parse("30 0 * * * *")

        assert next_fire(pattern, after=0.0, tz="UTC") == 30.0
        assert next_fire_ms(pattern, after_ms=30_000, tz="UTC") == 3_630_000

    @pytest.mark.parametrize("after", [math.nan, math.inf, -1.0, 1e300])
    def test_a_time_outside_the_calendar_is_refused(self, after: float) -> None:
        with pytest.raises(InvalidOption, match="after must be"):
            next_fire("* * * * *", after=after, tz="UTC")

    def test_without_a_zone_it_is_the_zone_of_the_machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        try:
            assert next_fire("0 9 * * *", after=1.0) == 86_400.0
        finally:
            monkeypatch.undo()
            time.tzset()

    def test_a_leap_day_on_one_weekday_is_found_even_across_2100(self) -> None:
        after = datetime.fromisoformat("2080-03-01T00:00:00+00:00").timestamp()

        fire = next_fire("0 0 * 2 4#5", after=after, tz="UTC")

        assert fire is not None
        assert datetime.fromtimestamp(fire, ZoneInfo("UTC")).strftime("%Y-%m-%d %a") == "2120-02-29 Thu"


class TestDays:
    """June 2025 starts on a Sunday."""

    @pytest.mark.parametrize(
        ("pattern", "days"),
        [
            ("0 0 10 * *", [10]),
            ("0 0 * * 5", [6, 13, 20, 27]),
            ("0 0 10 * 5", [6, 10, 13, 20, 27]),
            ("0 0 */1 * 5", list(range(1, 31))),
            ("0 0 ? * 5", [6, 13, 20, 27]),
            ("0 0 L * ?", [30]),
            ("0 0 1,L * *", [1, 30]),
            ("0 0 * * 5L", [27]),
            ("0 0 * * 7L", [29]),
            ("0 0 * * 1L", [30]),
            ("0 0 * * mon,friL", [2, 9, 16, 23, 27, 30]),
            ("0 0 * * 1#5", [30]),
            ("0 0 * * sun#1", [1]),
            ("0 0 7 * fri#2", [7, 13]),
        ],
    )
    def test_days_of_a_month(self, pattern: str, days: list[int]) -> None:
        at = datetime.fromisoformat("2025-05-31T23:59:59+00:00").timestamp()
        end = datetime.fromisoformat("2025-06-30T23:59:59+00:00").timestamp()
        found: list[int] = []
        while (fire := next_fire(pattern, after=at, tz="UTC", end=end)) is not None:
            assert fire > at
            found.append(datetime.fromtimestamp(fire, ZoneInfo("UTC")).day)
            at = fire

        assert found == days


class TestClockChanges:
    """New York: 02:00 becomes 03:00 on 2025-03-09, and 02:00 becomes 01:00 again on 2025-11-02."""

    ZONE = "America/New_York"

    def test_a_run_in_the_skipped_hour_is_made_up_in_the_next(self) -> None:
        assert fires("30 2 * * *", "2025-03-09T00:00", tz=self.ZONE) == [
            "2025-03-09T03:30-04:00",
            "2025-03-10T02:30-04:00",
        ]

    def test_of_several_runs_in_the_skipped_hour_one_is_made_up(self) -> None:
        assert fires("*/20 2 * * *", "2025-03-09T00:00", tz=self.ZONE) == [
            "2025-03-09T03:00-04:00",
            "2025-03-10T02:00-04:00",
        ]

    def test_nothing_is_made_up_after_the_clock_has_resumed(self) -> None:
        assert fires("30 2 * * *", "2025-03-09T03:00", tz=self.ZONE, count=1) == ["2025-03-10T02:30-04:00"]

    def test_a_fixed_run_in_the_repeated_hour_happens_once(self) -> None:
        assert fires("30 1 * * *", "2025-11-02T00:00", tz=self.ZONE) == [
            "2025-11-02T01:30-04:00",
            "2025-11-03T01:30-05:00",
        ]

    def test_a_search_from_the_last_second_of_the_first_pass_does_not_see_the_second(self) -> None:
        last_second = datetime.fromisoformat("2025-11-02T01:59:59-04:00").timestamp()
        tomorrow = datetime.fromisoformat("2025-11-03T01:30:00-05:00").timestamp()

        assert next_fire("30 1 * * *", after=last_second, tz=self.ZONE) == tomorrow

    def test_a_search_from_the_second_pass_sees_it(self) -> None:
        in_second_pass = datetime.fromisoformat("2025-11-02T01:10:00-05:00").timestamp()

        assert next_fire("30 1 * * *", after=in_second_pass, tz=self.ZONE) == in_second_pass + 20 * 60

    @pytest.mark.parametrize("hours", ["*", "*/1", "0-23", "0-11,12-23"])
    def test_a_pattern_of_all_hours_follows_elapsed_time(self, hours: str) -> None:
        spring = fires(f"0 {hours} * * *", "2025-03-09T00:30", tz=self.ZONE, count=3)
        autumn = fires(f"0 {hours} * * *", "2025-11-02T00:30", tz=self.ZONE, count=3)

        assert spring == ["2025-03-09T01:00-05:00", "2025-03-09T03:00-04:00", "2025-03-09T04:00-04:00"]
        assert autumn == ["2025-11-02T01:00-04:00", "2025-11-02T01:00-05:00", "2025-11-02T02:00-05:00"]

    def test_a_day_that_starts_late_has_no_midnight_run(self) -> None:
        assert fires("0 0 * * *", "2025-04-24T12:00", tz="Africa/Cairo") == [
            "2025-04-26T00:00+03:00",
            "2025-04-27T00:00+03:00",
        ]

    def test_a_midnight_run_is_made_up_if_the_hour_before_is_listed_too(self) -> None:
        assert fires("30 23,0 * * *", "2025-04-24T12:00", tz="Africa/Cairo") == [
            "2025-04-24T23:30+02:00",
            "2025-04-25T01:30+03:00",
        ]

    def test_a_clock_set_back_into_the_day_before_runs_that_hour_again(self) -> None:
        last_second = datetime.fromisoformat("2028-10-28T23:59:59+03:00").timestamp()

        fire = next_fire("34 * * * 6", after=last_second, tz="Asia/Beirut")

        assert fire == datetime.fromisoformat("2028-10-28T23:34:00+02:00").timestamp()

    def test_a_half_hour_change_neither_stops_nor_moves_a_series(self) -> None:
        assert fires("*/30 * * * *", "2025-04-06T01:10", tz="Australia/Lord_Howe", count=3) == [
            "2025-04-06T01:30+11:00",
            "2025-04-06T01:30+10:30",
            "2025-04-06T02:00+10:30",
        ]
        assert fires("15 2 * * *", "2025-10-05T00:00", tz="Australia/Lord_Howe", count=1) == ["2025-10-06T02:15+11:00"]

    def test_nothing_is_made_up_where_the_hour_resumes_past_its_minute(self) -> None:
        """Casey went from 00:01 to 03:01."""
        assert fires("0 2 * * *", "2021-10-03T00:00", tz="Antarctica/Casey", count=1) == ["2021-10-04T02:00+11:00"]
        assert fires("5 2 * * *", "2021-10-03T00:00", tz="Antarctica/Casey", count=1) == ["2021-10-03T03:05+11:00"]


class TestRefusals:
    """Every refusal names the field and its range."""

    @pytest.mark.parametrize(
        ("pattern", "message"),
        [
            ("60 * * * *", "minute '60' is not within 0-59"),
            ("61 * * * * *", "second '61' is not within 0-59"),
            ("* 24 * * *", "hour '24' is not within 0-23"),
            ("* * 0 * *", "day of month '0' is not within 1-31"),
            ("* * * 13 *", "month '13' is not within 1-12 or jan to dec"),
            ("* * * jum *", "did you mean 'jun'"),
            ("* * * * sunday", "day of week 'sunday' is not within 0-7 or sun to sat; did you mean 'sun'"),
            ("* 22-2 * * *", "hour '22-2' runs backwards"),
            ("*/0 * * * *", "minute '\\*/0' has a step of 0"),
            ("1-5,3 * * * *", "minute '1-5,3' lists 3 twice"),
            ("* * * * 0,7", "day of week '0,7' lists 0 twice"),
            ("* * * * fri,5", "lists 5 twice"),
            ("* * * * 5L,friL", "lists one weekday twice"),
            ("* * L,L * *", "lists L twice"),
            ("* * * * 5#6", "day of week '5#6' is not within"),
            ("H * * * *", "hashed fields"),
            ("H(0-5)/2 * * * *", "hashed fields"),
            ("", "expected 5 fields"),
            ("* * * *", "got 4"),
            ("* * * * * * *", "got 7"),
            ("@dayly", "did you mean '@daily'"),
            ("@reboot", "unknown cron alias '@reboot'"),
            ("0 0 30 2 *", "never matches: no month of '2' has a day of '30'"),
            ("0 0 31 feb,4-6/2,9,11 *", "never matches"),
            ("* * * * ٣", "day of week '٣' is not within"),
        ],
    )
    def test_message(self, pattern: str, message: str) -> None:
        with pytest.raises(InvalidOption, match=message):
            CronPattern.parse(pattern)

    @pytest.mark.parametrize(
        "pattern",
        [
            ",".join(["1"] * 500) + " * * * *",
            "* " * 500,
            " " * 1020 + "* * * * *",
            "1" * 1_000_000,
            "9" * 1000 + " * * * *",
            "@" + "x" * 100_000,
            "*/" + "9" * 900 + "x * * * *",
        ],
        ids=len,
    )
    def test_a_huge_pattern_costs_little_and_is_not_repeated_in_full(self, pattern: str) -> None:
        with pytest.raises(InvalidOption) as refusal:
            CronPattern.parse(pattern)

        assert len(str(refusal.value)) < 1500

    @pytest.mark.parametrize(
        "tz", ["../../etc/passwd", "/etc/passwd", "", "Europe", "Mars/Base", "localtime", "Factory", "a" * 10_000, "\0"]
    )
    def test_only_names_of_known_zones_are_zones(self, tz: str) -> None:
        with pytest.raises(InvalidOption, match="unknown time zone") as refusal:
            next_fire("* * * * *", after=0.0, tz=tz)

        assert len(str(refusal.value)) < 200

    def test_a_misspelt_zone_is_answered_with_the_near_one(self) -> None:
        with pytest.raises(InvalidOption, match="did you mean 'Europe/Berlin'"):
            next_fire("* * * * *", after=0.0, tz="Europe/Belrin")


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int]]:
    """The text of one field, and the values that it stands for."""
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, high - low + 5))
    chosen = draw(st.sets(st.integers(low, high), min_size=1, max_size=6))
    return draw(
        st.sampled_from(
            [
                ("*", set(range(low, high + 1))),
                (str(first), {first}),
                (f"{first}-{last}", set(range(first, last + 1))),
                (f"{first}-{last}/{step}", set(range(first, last + 1, step))),
                (f"{first}/{step}", set(range(first, high + 1, step))),
                (f"*/{step}", set(range(low, high + 1, step))),
                (",".join(str(value) for value in chosen), chosen),
            ]
        )
    )


def weekdays() -> st.SearchStrategy[tuple[str, set[int]]]:
    """As `fields`; 7 is Sunday too, and a list may not have both."""
    return (
        fields(0, 7)
        .filter(lambda field: "," not in field[0] or not {0, 7} <= field[1])
        .map(lambda field: (field[0], {value % 7 for value in field[1]}))
    )


ZONES = ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]


@given(
    second=fields(0, 59),
    minute=fields(0, 59),
    hour=fields(0, 23),
    day=fields(1, 31),
    month=fields(1, 12),
    weekday=weekdays(),
    tz=st.sampled_from(ZONES),
    after=st.integers(0, 4_000_000_000),
    between=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_fires_ascend_match_and_leave_none_out(  # noqa: PLR0917 - hypothesis passes by name
    second: tuple[str, set[int]],
    minute: tuple[str, set[int]],
    hour: tuple[str, set[int]],
    day: tuple[str, set[int]],
    month: tuple[str, set[int]],
    weekday: tuple[str, set[int]],
    tz: str,
    after: int,
    between: float,
) -> None:
    """Compared with a plain reading of the fields, on days on which the clock does not change."""
    assume(weekday[0] != "*" or min(day[1]) <= max(monthrange(2000, number)[1] for number in month[1]))
    zone = ZoneInfo(tz)
    pattern = " ".join(text for text, _ in (second, minute, hour, day, month, weekday))

    def matches(local: datetime) -> bool:
        by_day = local.day in day[1]
        by_weekday = local.isoweekday() % 7 in weekday[1]
        both_restricted = day[0] != "*" and weekday[0] != "*"
        return (
            local.second in second[1]
            and local.minute in minute[1]
            and local.hour in hour[1]
            and local.month in month[1]
            and ((by_day or by_weekday) if both_restricted else (by_day and by_weekday))
        )

    at = after
    for _ in range(3):
        fire = next_fire(pattern, after=at, tz=tz)
        assert fire is not None
        assert fire > at
        skipped = datetime.fromtimestamp(math.floor(at + (fire - at) * between), zone)
        assert skipped.timestamp() in (at, fire) or _clock_changes_near(skipped) or not matches(skipped)
        local = datetime.fromtimestamp(fire, zone)
        assert _clock_changes_near(local) or matches(local)
        at = int(fire)


def _clock_changes_near(local: datetime) -> bool:
    return (local - timedelta(days=1)).utcoffset() != (local + timedelta(days=1)).utcoffset()


def test_every_alias_is_a_pattern() -> None:
    assert [CronPattern.parse(alias) == CronPattern.parse(text) for alias, text in ALIASES.items()] == [True] * 10
