"""When a schedule's ticks are due, and how that is said to people."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from taurine.errors import InvalidOption
from taurine.queue.cron import ALIASES, CronPattern, next_fire, zone_name
from taurine.queue.scheduler import Schedule

__all__ = ["in_words", "in_zone", "times_after"]

log = logging.getLogger("taurine.jobs")

_UNITS = (("day", 86_400_000), ("hour", 3_600_000), ("minute", 60_000), ("second", 1000), ("millisecond", 1))
"""In ms."""


def times_after(times: Schedule, after: float) -> Iterator[float]:
    """The times that are due after `after`, all in wall seconds.

    Raises InvalidOption for a pattern or a zone that cannot be used.
    """
    if times.every is not None:
        every_ms, offset_ms = round(times.every * 1000), round((times.offset or 0) * 1000)
        due_ms = (round(after * 1000) - offset_ms) // every_ms * every_ms + offset_ms
        while times.end is None or (due_ms + every_ms) <= times.end * 1000:
            due_ms += every_ms
            yield due_ms / 1000
        return
    pattern = CronPattern.parse(times.pattern or "")
    while (due := next_fire(pattern, after=after, tz=times.tz, end=times.end)) is not None:
        yield due
        after = due


def in_zone(at: float, times: Schedule) -> datetime:
    """A time, wall seconds, as the clocks of the schedule's zone show it; UTC for an interval, and for a pattern whose
    zone is not given or not known here.
    """
    zone: tzinfo = UTC
    if times.tz is not None:
        with contextlib.suppress(InvalidOption):
            zone = ZoneInfo(zone_name(times.tz))
    return datetime.fromtimestamp(at, zone)


def in_words(times: Schedule) -> str:
    """The times as people say them, in English: "at 03:00, every day".

    A pattern that cannot be said so stands for itself.
    """
    if times.every is not None:
        return _interval_in_words(times.every)
    pattern = times.pattern or ""
    fields = ALIASES.get(pattern, pattern).replace("?", "*").split()
    words = _pattern_in_words(fields) or pattern
    return words[:1].lower() + words[1:]


def _interval_in_words(seconds: float) -> str:
    milliseconds = round(timedelta(seconds=seconds) / timedelta(milliseconds=1))
    unit, size = next((unit, size) for unit, size in _UNITS if milliseconds % size == 0)
    count = milliseconds // size
    return f"every {unit}" if count == 1 else f"every {count:,} {unit}s"


def _pattern_in_words(fields: list[str]) -> str | None:
    # Not at the top: it is a tenth of a second that only who lists schedules should wait.
    from cron_descriptor import CasingTypeEnum, ExpressionDescriptor, Options

    options = Options()
    options.use_24hour_time_format = True
    options.casing_type = CasingTypeEnum.Sentence
    options.locale_code = "en_US"
    # Said of a time of day alone; else it is said twice ("every 15 minutes, every hour, every day").
    options.verbose = fields[-3:] == ["*", "*", "*"] and "*" not in fields[-4]
    try:
        return ExpressionDescriptor(" ".join(fields), options).get_description()
    except Exception as error:  # noqa: BLE001 - another dialect's reader: its words are a comfort, and no list may fail by them
        log.debug("the pattern %s has no words: %s", fields, error)
        return None
