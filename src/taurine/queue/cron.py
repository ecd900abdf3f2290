"""Cron patterns: reading them, and finding the next time that one matches.

Whichever worker claims a run of a job scheduler computes the next one, so on a shared queue this module and BullMQ on
Node (npm package `cron-parser`) must give the same times. Two rules follow:

- A pattern is accepted only if Node accepts it, and then it means the same. What Node takes by accident is refused.
- A change of the clock is treated as Node treats it:
  a pattern that lists all 24 hours follows elapsed time, so it loses the skipped hour and runs through the repeated
  one;
  any other follows the wall clock, so it ignores the second pass of a repeated hour, and of the runs that fall
  into a skipped hour one is made up in the hour after.

`docs/cron.md` has the dialect and the few remaining differences. No library was near enough to wrap: in the days around
the clock changes of New York and Berlin, cronsim 2.8 disagreed with Node on 16 % of 2,400 series of plain patterns and
croniter 7.0 on 22 %, and no translation of the text can mend that. The search is therefore done here: plain calendar
arithmetic, corrected where the clock changes on the way.
"""

from __future__ import annotations

import math
import re
import time
from calendar import monthrange
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from taurine.errors import InvalidOption, did_you_mean

__all__ = ["ALIASES", "CronPattern", "next_fire", "next_fire_ms", "zone_name"]

HOUR = 3600  # seconds
DAY = 24 * HOUR
EPOCH = date(1970, 1, 1).toordinal()
LATEST = 253_000_000_000
"""Seconds since 1970; in the year 9987, so that calendar arithmetic stays inside what `datetime` can hold."""
LONGEST_CYCLE = timedelta(days=41 * 366)
"""The rarest pattern, a leap day on one weekday, can pause for 40 years around 2100."""
LONGEST_PATTERN = 1024
"""Characters; Node's limit. A list of every value of every field needs half of it."""

ALIASES: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
    "@minutely": "* * * * *",
    "@secondly": "* * * * * *",
    "@weekdays": "0 0 * * 1-5",
    "@weekends": "0 0 * * 0,6",
}
NOT_IN_NODE = {"Factory", "localtime"}
"""Files of a system's zone directory that are no zones of the IANA database."""
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

PART = re.compile(r"(?:[*?]|([a-z]+|[0-9]+)(?:-([a-z]+|[0-9]+))?)(?:/([0-9]+))?", re.ASCII | re.IGNORECASE)
LAST_WEEKDAY = re.compile(r"([A-Za-z]{3}|[0-9]+)L", re.ASCII)
NTH_WEEKDAY = re.compile(r"([A-Za-z]{3}|[0-9]+)#([1-5])", re.ASCII)

OffsetAt = Callable[[int], int]
"""Seconds east of UTC at an instant, given in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class CronPattern:
    """A cron pattern, read and checked. Made by `CronPattern.parse`.

    Times inside it are wall times: what a clock on the wall of some zone shows, counted in seconds since it showed
    the start of 1970. They know nothing of zones or of clock changes.
    """

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    month_days: frozenset[int]
    last_month_day: bool
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    nth_week: int
    """Which one of `weekdays` in the month counts, 1 to 5; 0 for each of them."""
    last_weekdays: frozenset[int]
    """Weekdays of which only the last one in the month counts."""
    any_month_day: bool
    any_weekday: bool

    @classmethod
    def parse(cls, text: str) -> CronPattern:
        """Read five or six fields (seconds first), or an alias such as `@daily`.

        Raises InvalidOption, which names the field and its range, when the text is not a pattern of this dialect or
        never matches (30 February).
        """
        fields = _split(text)
        days, last_day = _month_days(fields[3])
        weekdays, nth_week, last_weekdays = _weekdays(fields[5])
        pattern = cls(
            seconds=tuple(sorted(SECOND.values(fields[0]))),
            minutes=tuple(sorted(MINUTE.values(fields[1]))),
            hours=tuple(sorted(HOUR_OF_DAY.values(fields[2]))),
            month_days=days,
            last_month_day=last_day,
            months=MONTH.values(fields[4]),
            weekdays=weekdays,
            nth_week=nth_week,
            last_weekdays=last_weekdays,
            any_month_day=fields[3] in ("*", "?"),
            any_weekday=fields[5] in ("*", "?"),
        )
        if pattern._never_matches():
            raise InvalidOption(
                f"cron pattern {_shown(text)} never matches: no month of {_shown(fields[4])} has a day of {_shown(fields[3])}"
            )
        return pattern

    @property
    def every_hour(self) -> bool:
        """Whether all 24 hours are listed, however that is written."""
        return len(self.hours) == 24

    def matches_day(self, day: date) -> bool:
        """Tell whether the pattern has runs on this day.

        When day of month and day of week are both restricted, either will do.
        """
        if day.month not in self.months:
            return False
        days_left = monthrange(day.year, day.month)[1] - day.day
        by_month_day = day.day in self.month_days or (self.last_month_day and days_left == 0)
        if self.any_weekday:
            return by_month_day
        weekday = day.isoweekday() % 7
        nth_fits = self.nth_week in (0, (day.day + 6) // 7)
        by_weekday = (weekday in self.weekdays and nth_fits) or (weekday in self.last_weekdays and days_left < 7)
        return by_weekday or (by_month_day and not self.any_month_day)

    def next_wall_time(self, earliest: int) -> int | None:
        """The first matching wall time at or after this one, or None past the year 9999."""
        day_number, second_of_day = divmod(earliest, DAY)
        day = date.fromordinal(EPOCH + day_number)
        if self.matches_day(day):
            found = next(self._times_of_day(second_of_day), None)
            if found is not None:
                return day_number * DAY + found
        later = self._next_day(day)
        return None if later is None else (later.toordinal() - EPOCH) * DAY + next(self._times_of_day(0))

    def _times_of_day(self, earliest: int) -> Iterator[int]:
        for hour in self.hours:
            if hour * HOUR + 3599 < earliest:
                continue
            for minute in self.minutes:
                start = hour * HOUR + minute * 60
                if start + 59 >= earliest:
                    yield from (start + second for second in self.seconds if start + second >= earliest)

    def _next_day(self, day: date) -> date | None:
        try:
            end = day + LONGEST_CYCLE
            while day < end:
                in_wanted_month = day.month in self.months
                day = day + timedelta(days=1) if in_wanted_month else _next_month(day)
                if self.matches_day(day):
                    return day
        except (OverflowError, ValueError):  # the calendar ends with the year 9999
            pass
        return None

    def _never_matches(self) -> bool:
        if not self.any_weekday or self.last_month_day:
            return False
        a_leap_year = 2000
        longest = max(monthrange(a_leap_year, month)[1] for month in self.months)
        return min(self.month_days) > longest


def next_fire(
    pattern: str | CronPattern, *, after: float, tz: str | None = None, end: float | None = None
) -> float | None:
    """The next time that matches, strictly after `after`.

    after and end are seconds since 1970; the answer is too, and is always whole. tz is the name of a time zone in the
    IANA database; None (default) is this machine's zone, as in Node. end is the last second allowed, itself included;
    None (default) for no end. Returns None when nothing matches up to `end`.

    Raises InvalidOption for a pattern or zone that cannot be used, and for times before 1970 or after the year 9900.
    """
    if not math.isfinite(after):
        raise InvalidOption(f"after must be a time in seconds since 1970, got {after!r}")
    fire = _next_second(pattern, after=math.floor(after), tz=tz)
    return None if fire is None or (end is not None and fire > end) else float(fire)


def next_fire_ms(
    pattern: str | CronPattern, *, after_ms: int, tz: str | None = None, end_ms: int | None = None
) -> int | None:
    """The same as `next_fire`, with every time in whole milliseconds since 1970, as on the wire."""
    fire = _next_second(pattern, after=after_ms // 1000, tz=tz)
    return None if fire is None or (end_ms is not None and fire * 1000 > end_ms) else fire * 1000


def _next_second(pattern: str | CronPattern, *, after: int, tz: str | None) -> int | None:
    if not 0 <= after < LATEST:
        raise InvalidOption(f"after must be between 1970 and the year 9900, got {after} seconds since 1970")
    if isinstance(pattern, str):
        pattern = CronPattern.parse(pattern)
    return _search(pattern, after, _offsets(tz))


def _search(pattern: CronPattern, after: int, offset_at: OffsetAt) -> int | None:
    """Take the next matching wall time; while the clock changes before it, go on from the change."""
    start, offset = after, offset_at(after)
    earliest = after + 1 + offset
    while (wall := pattern.next_wall_time(earliest)) is not None:
        near = wall - offset - 2 * DAY
        if near > start + DAY and offset_at(start + DAY) == offset:
            # Changes in between touch neither the day that is left nor the day of the match.
            start, offset = near, offset_at(near)
        change = _next_change(offset_at, start, wall - offset)
        if change is None:
            return wall - offset
        due, resumed = change + offset, change + offset_at(change)
        start, offset, earliest = change, resumed - change, resumed
        if pattern.every_hour:
            continue
        made_up = _made_up(pattern, skipped_from=due, resumed_at=resumed)
        if made_up is not None:
            return made_up - offset
        earliest = max(due, resumed)  # a clock set back shows again what it has shown
    return None


def _made_up(pattern: CronPattern, *, skipped_from: int, resumed_at: int) -> int | None:
    """The wall time of the one run that stands for those in whole hours that the clock skipped, if there is one.

    It is in the hour in which the clock resumed. Where that hour is the first of a day, Node makes a run up only if
    it was counting through the hour before, that is, if that hour is in the pattern.
    """
    last_hour, hour = (skipped_from - 1) // HOUR, resumed_at // HOUR
    if not any(skipped % 24 in pattern.hours for skipped in range(last_hour + 1, hour)):
        return None
    last_day, day = (date.fromordinal(EPOCH + number // 24) for number in (last_hour, hour))
    if last_day != day and not (last_hour % 24 in pattern.hours and pattern.matches_day(last_day)):
        return None
    wall = replace(pattern, hours=(hour % 24,)).next_wall_time(resumed_at)
    return wall if wall is not None and wall // HOUR == hour else None


def _next_change(offset_at: OffsetAt, start: int, end: int) -> int | None:
    """The first instant after `start`, up to `end` inclusive, with another offset than `start` has.

    No zone has changed its clock and changed it back within a day.
    """
    offset = offset_at(start)
    while start < end:
        probe = min(start + DAY, end)
        if offset_at(probe) != offset:
            return _bisect(offset_at, start, probe, offset)
        start = probe
    return None


def _bisect(offset_at: OffsetAt, before: int, after: int, offset: int) -> int:
    while after - before > 1:
        middle = (before + after) // 2
        if offset_at(middle) == offset:
            before = middle
        else:
            after = middle
    return after


def _offsets(tz: str | None) -> OffsetAt:
    if tz is None:
        return lambda instant: time.localtime(instant).tm_gmtoff
    zone = ZoneInfo(zone_name(tz))
    return lambda instant: int((datetime.fromtimestamp(instant, zone).utcoffset() or timedelta()).total_seconds())


def zone_name(tz: str) -> str:
    """The IANA database's own spelling of a zone's name, in which case does not count.

    Raises InvalidOption, with the near miss.
    """
    known = _zone_names()
    name = known.get(tz.lower())
    if name is None:
        near = did_you_mean(tz, sorted(known.values())) if len(tz) <= 64 else ""
        raise InvalidOption(f"unknown time zone {_shown(tz)}: expected a name such as 'Europe/Berlin'{near}")
    return name


@cache
def _zone_names() -> Mapping[str, str]:
    """Known names by their lower-case form, since Node takes any case. Listing them reads a directory tree."""
    return {name.lower(): name for name in available_timezones() - NOT_IN_NODE}


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    low: int
    high: int
    words: tuple[str, ...] = ()
    first_word: int = 0

    def values(self, text: str) -> frozenset[int]:
        """The values of a comma-separated list of `*`, `?`, numbers, names, ranges and steps."""
        found: set[int] = set()
        for part in text.split(","):
            added = self._part(part)
            if repeated := found & added:
                raise InvalidOption(f"cron {self.name} {_shown(text)} lists {min(repeated)} twice; Node refuses that")
            found |= added
        return frozenset(found)

    def _part(self, text: str) -> set[int]:
        match = PART.fullmatch(text)
        if match is None:
            raise self.refuse(text)
        first, last, step = match.groups()
        low = self.low if first is None else self.number(first)
        high = low if first is not None and step is None else self.high
        if last is not None:
            high = self.number(last)
        if low > high:
            raise InvalidOption(f"cron {self.name} {_shown(text)} runs backwards; write two ranges, as in '22-23,0-2'")
        if step is not None and int(step) == 0:
            raise InvalidOption(f"cron {self.name} {_shown(text)} has a step of 0; the smallest step is 1")
        return {self.canonical(value) for value in range(low, high + 1, int(step or 1))}

    def number(self, text: str) -> int:
        word = text.lower()
        if word in self.words:
            return self.words.index(word) + self.first_word
        if not text.isdecimal() or not self.low <= int(text) <= self.high:
            raise self.refuse(text)
        return int(text)

    def canonical(self, value: int) -> int:
        return 0 if self is WEEKDAY and value == 7 else value

    def refuse(self, text: str) -> InvalidOption:
        if re.search(r"H(?![a-z])", text):
            return InvalidOption(
                f"cron {self.name} {_shown(text)}: hashed fields (H) are not supported, because Node draws new values "
                "each time it computes a run; choose a fixed value"
            )
        words = f" or {self.words[0]} to {self.words[-1]}" if self.words else ""
        near = did_you_mean(text.lower(), self.words) if len(text) <= 16 else ""
        return InvalidOption(f"cron {self.name} {_shown(text)} is not within {self.low}-{self.high}{words}{near}")


SECOND = _Field("second", 0, 59)
MINUTE = _Field("minute", 0, 59)
HOUR_OF_DAY = _Field("hour", 0, 23)
MONTH_DAY = _Field("day of month", 1, 31)
MONTH = _Field("month", 1, 12, MONTHS, 1)
WEEKDAY = _Field("day of week", 0, 7, WEEKDAYS)


def _split(text: str) -> list[str]:
    if len(text) > LONGEST_PATTERN:
        raise InvalidOption(f"a cron pattern has at most {LONGEST_PATTERN} characters, got {len(text)}")
    if text.startswith("@") and text not in ALIASES:
        known = ", ".join(ALIASES)
        raise InvalidOption(f"unknown cron alias {_shown(text)}{did_you_mean(text, list(ALIASES))} (known: {known})")
    fields = re.findall(r"\S+", ALIASES.get(text, text), re.ASCII)
    if len(fields) not in (5, 6):
        raise InvalidOption(
            f"cron pattern {_shown(text)}: expected 5 fields (minute, hour, day of month, month, day of week), "
            f"or 6 with the second in front, got {len(fields)}"
        )
    return fields if len(fields) == 6 else ["0", *fields]


def _month_days(text: str) -> tuple[frozenset[int], bool]:
    parts = text.split(",")
    numbers = [part for part in parts if part != "L"]
    if len(parts) - len(numbers) > 1:
        raise InvalidOption(f"cron day of month {_shown(text)} lists L twice; Node refuses that")
    return MONTH_DAY.values(",".join(numbers)) if numbers else frozenset(), len(numbers) < len(parts)


def _weekdays(text: str) -> tuple[frozenset[int], int, frozenset[int]]:
    if nth := NTH_WEEKDAY.fullmatch(text):
        return frozenset({WEEKDAY.canonical(WEEKDAY.number(nth[1]))}), int(nth[2]), frozenset()
    parts = text.split(",")
    last = [match[1] for part in parts if (match := LAST_WEEKDAY.fullmatch(part))]
    plain = [part for part in parts if not LAST_WEEKDAY.fullmatch(part)]
    last_days = frozenset(WEEKDAY.canonical(WEEKDAY.number(day)) for day in last)
    if len(last_days) < len(last):
        raise InvalidOption(f"cron day of week {_shown(text)} lists one weekday twice; Node refuses that")
    return WEEKDAY.values(",".join(plain)) if plain else frozenset(), 0, last_days


def _next_month(day: date) -> date:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1, day=1)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 64 else text[:64] + "…")
