"""BMQ-121, BMQ-122: BullMQ on Node and we compute the same next runs of cron patterns.

Node answers every question of a test in one process.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from support.node import NodeProcess
from taurine.errors import InvalidOption
from taurine.queue.cron import ALIASES, next_fire_ms

FIRES = 5

EXPRESSIONS = [
    # every field at its simplest, with and without seconds
    "* * * * *",
    "* * * * * *",
    "0 * * * * *",
    "0 * * * *",
    "30 * * * *",
    "0 0 * * *",
    "0 3 * * *",
    "59 23 * * *",
    "0 0 1 * *",
    "0 0 1 1 *",
    "0 0 31 12 *",
    "0 12 * * 1",
    "15 30 9 * * *",
    "59 59 23 31 12 *",
    *ALIASES,
    # lists, ranges, steps
    "*/5 * * * *",
    "*/7 * * * *",
    "*/15 * * * * *",
    "5/15 * * * *",
    "10-50/20 * * * *",
    "1,2,3,58 * * * *",
    "0-10,50-59/3 * * * *",
    "*/90 * * * *",
    "0 */2 * * *",
    "0 */3 * * *",
    "0 */5 * * *",
    "0 1/6 * * *",
    "0 9-17 * * *",
    "*/20 9-17/4 * * *",
    "0,30 8,20 * * *",
    "0 22-23,0-2 * * *",
    "0 0 */2 * *",
    "0 0 */10 * *",
    "0 0 10-20/5 * *",
    "0 0 1,15 * *",
    "0 0 1 */3 *",
    "0 0 1 2-11/3 *",
    "05 007 * * *",
    "*/10 */10 */6 * * *",
    "7,37 */30 * * * *",
    # names, any case, and weekday 7
    "0 0 1 jan *",
    "0 0 1 JAN,Jul *",
    "0 0 1 mar-may *",
    "0 0 1 jan-dec/4 *",
    "0 9 * * mon",
    "0 9 * * MON-FRI",
    "0 9 * * sun,sat",
    "0 9 * * mon/2",
    "0 9 * * 0",
    "0 9 * * 7",
    "0 9 * * 5-7",
    "0 9 * * 1-7/2",
    "0 9 * * sun-tue",
    "0 9 * * */2",
    # the rule for two restricted kinds of day, and what counts as unrestricted
    "0 0 13 * 5",
    "0 0 1,15 * mon",
    "0 0 */1 * 1",
    "0 0 1-31 * 1",
    "0 0 1 * */1",
    "0 0 1 * 0-6",
    "0 0 ? * 1",
    "0 0 1 * ?",
    "? ? ? ? ? ?",
    "0 0 30 2 1",
    "0 0 31 4 fri",
    # the last day, the last weekday, the nth weekday
    "0 0 L * *",
    "0 0 L 2 *",
    "0 0 15,L * *",
    "0 0 L * 1",
    "30 23 L */2 *",
    "0 0 * * 5L",
    "0 0 * * friL",
    "0 0 * * 7L",
    "0 0 * * 1L,3L",
    "0 0 * * 1,5L",
    "0 0 1 * 5L",
    "0 0 * * 5#2",
    "0 0 * * fri#1",
    "0 0 * * 7#1",
    "0 0 * * 1#5",
    "0 0 * 2,3 4#5",
    "0 0 13 * 5#3",
    # rare days
    "0 0 29 2 *",
    "0 0 31 * *",
    "0 0 30,31 2,4 *",
    "0 0 31 1-6/2 *",
    "0 12 29 2 1",
    # hours that a clock change skips or repeats, fixed and in lists
    "0 1 * * *",
    "30 1 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "59 59 2 * * *",
    "0 3 * * 0",
    "30 3 * * *",
    "*/10 1 * * *",
    "*/10 2 * * *",
    "*/30 1-3 * * *",
    "15,45 1,3 * * *",
    "30 0,2 * * *",
    "30 2,3 * * *",
    "30 2,4 * * *",
    "20 */2 * * *",
    "20 1-23/2 * * *",
    "0 0-22 * * *",
    "0 1-23 * * *",
    "0 0-23 * * *",
    "45 0-11,12-23 * * *",
    "*/20 * * * * 0",
    "30 30 2 * * sun",
    "30 2 * 3,10,11 0",
    "30 1 * 11 0#1",
    "30 2 * 3 0L",
    "15 2 8-14 3 *",
    # white space
    "  0   4 * * *  ",
    "0\t4\t*\t*\t*",
]
ZONES = ["UTC", "America/New_York", "Europe/Berlin"]
STARTS = [
    # around New York's changes, 2025-03-09 07:00 and 2025-11-02 06:00 UTC
    "2025-03-07T17:00:00Z",
    "2025-03-09T05:30:00Z",
    "2025-03-09T06:59:59Z",
    "2025-03-09T07:10:00Z",
    "2025-10-31T17:00:00Z",
    "2025-11-02T04:00:00Z",
    "2025-11-02T05:59:30Z",
    "2025-11-02T06:20:00Z",
    # around Berlin's changes, 2025-03-30 01:00 and 2025-10-26 01:00 UTC
    "2025-03-28T23:00:00Z",
    "2025-03-30T00:00:00Z",
    "2025-03-30T00:59:59Z",
    "2025-03-30T01:00:00Z",
    "2025-10-25T10:00:00Z",
    "2025-10-26T00:30:00Z",
    "2025-10-26T01:05:00.001Z",
    # the ends of a month, a leap February and a year
    "2025-06-30T23:59:59.999Z",
    "2028-02-27T12:34:56.789Z",
    "2025-12-31T23:59:59Z",
]
KNOWN_DIFFERENCES: dict[tuple[str, str], str] = {}
"""(expression, zone) to the reason why Node's times are not ours. Empty: there is none to explain."""

REFUSED_BY_BOTH = [
    "60 * * * *",
    "* 24 * * *",
    "* * 0 * *",
    "* * 32 * *",
    "* * * 13 *",
    "* * * * 8",
    "60 * * * * *",
    "-1 * * * *",
    "1.5 * * * *",
    "a * * * *",
    "* * * foo *",
    "* * * * sunday",
    "* * * * * * *",
    "5-1 * * * *",
    "* 22-2 * * *",
    "* * * * fri-mon",
    "*/0 * * * *",
    "*/ * * * *",
    "/5 * * * *",
    "1/2/3 * * * *",
    "1,,2 * * * *",
    "1, * * * *",
    "1,1 * * * *",
    "*,5 * * * *",
    "1-5,3 * * * *",
    "* * * * 0,7",
    "* * * * 5-7,7",
    "* * L-3 * *",
    "* * L,L * *",
    "* * 15W * *",
    "* * LW * *",
    "L * * * *",
    "* * * * L",
    "* * * * L5",
    "* * * * 5l",
    "* * * * 5#0",
    "* * * * 5#6",
    "* * * * 1,5#2",
    "* * * * 1-5#2",
    "0 0 30 2 *",
    "0 0 31 4 *",
    "@reboot",
    "@midnight",
    "@Daily",
    "@daily ",
    "0 0 * * 1;",
    "0 0 * * １",
    "1" * 1025,
    ",".join(str(n % 60) for n in range(500)) + " * * * *",
]
STRICTER_THAN_NODE = {
    "": "Node reads it as every minute",
    "5": "Node fills in missing fields from the left",
    "* * * *": "Node fills in missing fields from the left",
    "H * * * *": "Node draws a new value each time it computes a run",
    "0 H(1-5) * * *": "Node draws a new value each time it computes a run",
    "1-5-9 * * * *": "Node drops the -9",
    "*-5 * * * *": "Node drops the -5",
    "0 0 5L * *": "Node reads it as L",
    "0 0 * * 12L": "Node reads it as 1L",
    "0 0 * mon *": "Node reads it as January",
    "0 0 * * jan": "Node reads it as Monday",
    "0 0 * * *#2": "Node reads it as days 8 to 14",
    "0 0 * * 1-5L": "Node reads it as 1-5",
    "0 0 31 4,6 *": "Node finds no run, and the scheduler stops without a word",
}


@dataclass(frozen=True)
class Question:
    pattern: str
    tz: str | None
    after: int
    endDate: int | None = None  # noqa: N815 - a key of the Node script
    fires: int = FIRES


@dataclass(frozen=True)
class OddChange:
    """A clock change that Node's date arithmetic does not get through."""

    pattern: str
    tz: str
    after: str
    node: list[str]
    ours: list[str]
    reason: str


ODD_CHANGES = [
    OddChange(
        "0 * * * *",
        "Australia/Lord_Howe",
        "2025-04-06T00:30:00+11:00",
        node=["2025-04-06T01:00:00+11:00"],
        ours=["2025-04-06T01:00:00+11:00", "2025-04-06T02:00:00+10:30"],
        reason="set back by half an hour: Node gives up, and the scheduler stops for good",
    ),
    OddChange(
        "48 2 * * *",
        "Australia/Lord_Howe",
        "2025-10-05T01:59:00+10:30",
        node=["2025-10-05T03:48:00+11:00", "2025-10-06T02:48:00+11:00"],
        ours=["2025-10-05T02:48:00+11:00", "2025-10-06T02:48:00+11:00"],
        reason="set forward by half an hour: Node skips the whole hour",
    ),
    OddChange(
        "0 4 * * *",
        "America/Nuuk",
        "2025-03-28T23:00:00-02:00",
        node=["2025-03-30T04:00:00-01:00"],
        ours=["2025-03-29T04:00:00-02:00"],
        reason="set forward from 23:00 to the next day: Node loses a day if it starts in that hour the day before",
    ),
    OddChange(
        "0 0 * * 0",
        "America/Havana",
        "2025-11-01T23:30:00-04:00",
        node=["2025-11-02T00:00:00-05:00"],
        ours=["2025-11-02T00:00:00-04:00"],
        reason="set back to midnight: Node takes the second midnight if it starts in the hour before",
    ),
    OddChange(
        "30 2 * * *",
        "Antarctica/Troll",
        "2025-10-26T00:30:00+02:00",
        node=["2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+00:00"],
        ours=["2025-10-26T02:30:00+02:00", "2025-10-27T02:30:00+00:00"],
        reason="set back by two hours: Node runs again in the second pass",
    ),
    OddChange(
        "21 1-11 19-30 * *",
        "America/New_York",
        "2027-11-07T01:59:59.539-04:00",
        node=["2027-11-19T02:21:00-05:00"],
        ours=["2027-11-19T01:21:00-05:00"],
        reason="set back as usual: Node loses one later run if it starts in the last second before the change",
    ),
]


async def test_both_sides_compute_the_same_runs() -> None:
    questions = [Question(pattern, tz, _ms(start)) for pattern in EXPRESSIONS for tz in ZONES for start in STARTS]

    differences: dict[tuple[str, str], str] = {}
    for question, theirs in zip(questions, await _node(questions), strict=True):
        ours = {"fires": _ours(question)}
        if ours != theirs:
            differences[question.pattern, question.tz or ""] = f"{question}: Node {theirs}, we {ours}"
        assert len(ours["fires"]) == FIRES

    assert len(set(EXPRESSIONS)) >= 100
    unexplained = [text for key, text in differences.items() if key not in KNOWN_DIFFERENCES]
    assert not unexplained, "\n".join(unexplained[:20])
    assert not KNOWN_DIFFERENCES.keys() - differences.keys(), "an explained difference is none any more"


async def test_we_refuse_what_node_refuses() -> None:
    theirs = await _node([Question(pattern, "UTC", 0) for pattern in REFUSED_BY_BOTH])

    assert [p for p, answer in zip(REFUSED_BY_BOTH, theirs, strict=True) if "error" not in answer] == []
    assert [p for p in REFUSED_BY_BOTH if not _refused(p)] == []


async def test_what_node_takes_by_accident_we_refuse() -> None:
    theirs = await _node([Question(pattern, "UTC", 0) for pattern in STRICTER_THAN_NODE if pattern])

    assert [answer for answer in theirs if "error" in answer] == []
    assert [p for p in STRICTER_THAN_NODE if not _refused(p)] == []


async def test_the_end_is_included_on_both_sides() -> None:
    noon = _ms("2025-06-01T12:00:00Z")
    questions = [
        Question("0 12 * * *", "UTC", noon - 1, endDate=noon),
        Question("0 12 * * *", "UTC", noon - 1, endDate=noon - 1),
        Question("0 12 * * *", "UTC", noon, endDate=noon),
        Question("0 12 * * *", "UTC", noon, endDate=noon + 86_400_000),
    ]

    theirs = [answer["fires"] for answer in await _node(questions)]

    assert theirs == [_ours(question) for question in questions]
    assert theirs == [[noon], [], [], [noon + 86_400_000]]


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "Asia/Kolkata"])
async def test_without_a_zone_both_sides_use_that_of_the_machine(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patterns = ["0 0 * * *", "30 2 * * *", "30 1 * * *", "*/30 * * * *"]
    questions = [Question(pattern, None, _ms(start)) for pattern in patterns for start in STARTS]
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        theirs = [answer["fires"] for answer in await _node(questions)]
        ours = [_ours(question) for question in questions]
    finally:
        monkeypatch.undo()
        time.tzset()

    assert ours == theirs
    assert ours == [_ours(replace(question, tz=zone)) for question in questions]


@pytest.mark.parametrize("tz", ["europe/berlin", "UTC", "utc", "Etc/GMT-3", "US/Eastern", "EST"])
async def test_both_sides_know_the_zone_in_any_case(tz: str) -> None:
    question = Question("0 9 * * *", tz, _ms("2025-03-29T12:00:00Z"))

    assert await _node([question]) == [{"fires": _ours(question)}]


@pytest.mark.parametrize("change", ODD_CHANGES, ids=lambda change: change.tz)
async def test_odd_changes_of_the_clock_differ_as_documented(change: OddChange) -> None:
    question = Question(change.pattern, change.tz, _ms(change.after), fires=len(change.ours))

    [theirs] = await _node([question])

    assert _shown(_ours(question), change.tz) == change.ours
    assert _shown(theirs["fires"], change.tz)[: len(change.node)] == change.node
    assert change.node != change.ours


async def _node(questions: Iterable[Question]) -> list[dict[str, Any]]:
    async with NodeProcess("cron.mjs") as node:
        node.send([asdict(question) for question in questions])
        return await node.receive(timeout=100)


def _ours(question: Question) -> list[int]:
    found: list[int] = []
    previous = question.after
    while len(found) < question.fires:
        fire = next_fire_ms(question.pattern, after_ms=previous, tz=question.tz, end_ms=question.endDate)
        if fire is None:
            break
        found.append(fire)
        previous = fire
    return found


def _refused(pattern: str) -> bool:
    try:
        next_fire_ms(pattern, after_ms=0, tz="UTC")
    except InvalidOption:
        return True
    return False


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _shown(fires: Sequence[int], tz: str) -> list[str]:
    return [datetime.fromtimestamp(fire / 1000, ZoneInfo(tz)).isoformat() for fire in fires]
