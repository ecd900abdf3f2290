"""Whether a handler may run again: several times in a row, and after it broke off at any of its points.

A process may die anywhere, and then the job is delivered again. What the handler has done outside by then is either
done again, or found and left. The tests here let it break off at each point where that makes a difference, run it to
its end as a worker would, and compare what it has left outside with what an undisturbed run leaves.

The points of an attempt:

| point | if the process dies there |
|---|---|
| before `once`, in it before and after the call, after it | the intent is not written, or is, and its result is not, or is |
| at each progress | the state is what was saved last; and once more as if a worker had just saved it |
| before and after each save | |
| at its end | the handler has done everything, and nobody has recorded it |
"""

from __future__ import annotations

import copy
import difflib
import inspect
import pprint
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar, Unpack

from taurine.errors import EffectUnknown, InvalidOption
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.handler.detached import DetachedContext, MemoryEffects
from taurine.options import require_count
from taurine.testing.outcomes import JobAttempt, attempt_job
from taurine.testing.running import RunOptions, accepted, context_for, without_loop

__all__ = [
    "Failpoint",
    "Rerun",
    "RerunReport",
    "Reset",
    "Snapshot",
    "run_at_failpoints",
    "run_at_failpoints_sync",
    "run_twice",
    "run_twice_sync",
]

PayloadT = TypeVar("PayloadT")
ResultT = TypeVar("ResultT")

Snapshot: TypeAlias = Callable[[], Any]
"""Reads what the handler changes outside: rows, files, sent mails. What it returns is copied and compared with `==`.
May be async.
"""

Reset: TypeAlias = Callable[[], Any]
"""Puts what is outside back to where it was before the job. May be async."""

_MOST_ATTEMPTS = 50
"""Attempts of one job that are made: a handler that always hands its job back would go on for ever."""

_MOST_FAILURES = 5
"""Failures that a message shows in full."""


@dataclass(frozen=True, slots=True)
class Failpoint:
    """A point where an attempt breaks off.

    number: from 1, in the order of an undisturbed run. saved: a worker has saved state and progress just before.
    """

    number: int
    name: str
    saved: bool = False

    def __str__(self) -> str:
        return f"{self.name}, just saved" if self.saved else self.name


@dataclass(frozen=True, slots=True)
class Rerun:
    """What came of breaking off at one point, or of one more run.

    outside: as it was read afterwards. problem: what is wrong with it, or None.
    """

    at: Failpoint | None
    attempts: tuple[JobAttempt[Any], ...]
    outside: Any
    problem: str | None


@dataclass(frozen=True, slots=True)
class RerunReport:
    """What was tried, all of which went well.

    outside: what one undisturbed run leaves. left_out: points that were not tried, as there were more than `most`.
    """

    reruns: tuple[Rerun, ...]
    outside: Any
    left_out: int = 0

    @property
    def points(self) -> list[str]:
        """The failpoints that were tried, in their order."""
        return [str(rerun.at) for rerun in self.reruns if rerun.at is not None]


async def run_twice(
    job: JobType[PayloadT, Any],
    payload: PayloadT,
    *,
    outside: Snapshot,
    times: int = 2,
    **options: Unpack[RunOptions],
) -> RerunReport:
    """Run a job to its end `times` times and compare what is outside: after each further run it must be as it was after
    the first.

    The further runs are deliveries of the same job, after its worker died before it could record the end: `ctx.once`
    remembers, and `ctx.state` is what was saved last.
    outside: reads what the handler changes. times: 2 or more. Default: 2. options: as for `run_job`, without `context`,
    `attempt` and `at`.

    Raises AssertionError, with what is different; and as `run_job` does for a payload or an option that will not do.
    """
    require_count(times, "times", minimum=2)
    run = _Run(job, payload, options)
    first = await run.to_its_end(_Breaking(None))
    expected = await _read(outside)
    problem = _unended(first)
    reruns = [Rerun(None, tuple(first), expected, problem and f"the first run did not end well: {problem}")]
    while len(reruns) < times and reruns[-1].problem is None:
        attempts = await run.to_its_end(_Breaking(None))
        found = await _read(outside)
        problem = _unended(attempts) or _difference(expected, found)
        reruns.append(Rerun(None, tuple(attempts), found, problem and f"run {len(reruns) + 1} of {times}: {problem}"))
    return _reported(job, RerunReport(tuple(reruns), expected), tried=f"{times} runs")


async def run_at_failpoints(
    job: JobType[PayloadT, Any],
    payload: PayloadT,
    *,
    outside: Snapshot,
    reset: Reset,
    unknown: Literal["fail", "allow"] = "fail",
    most: int = 200,
    **options: Unpack[RunOptions],
) -> RerunReport:
    """Break the job off at each of its points, each time from a fresh start, run it to its end, and compare what is
    outside with what an undisturbed run leaves.

    outside: reads what the handler changes. reset: puts that back to where it was before; called before each run.
    unknown: what it means when a run ends with EffectUnknown, since nobody can tell whether an operation of `ctx.once`
    happened. "fail": it is a failure like others, which a `look_up` mends. "allow": it is right that somebody has to
    look, and what is outside is not compared. Default: "fail".
    most: breaks at most; of more points some are left out, evenly, and the report says how many. Default: 200.
    options: as for `run_job`, without `context`, `attempt` and `at`.

    Code that runs while a handler is left (`finally`, `except BaseException`) runs here too, other than in a process
    that dies; its context does nothing more.
    Points are where the handler uses its context: what lies between two of them is done again as a whole. Raises
    AssertionError, with each point at which something is different, and how;
    and as `run_job` does for a payload or an option that will not do.
    """
    require_count(most, "most", minimum=1)
    await _called(reset)
    undisturbed = _Breaking(None)
    attempts = await _Run(job, payload, options).to_its_end(undisturbed)
    expected = await _read(outside)
    if (problem := _unended(attempts)) is not None:
        raise AssertionError(f"{job.name}: the undisturbed run did not end well: {problem}")
    points = list(_points(undisturbed.passed))
    chosen = _evenly(points, most)
    reruns: list[Rerun] = []
    for point in chosen:
        await _called(reset)
        attempts = await _Run(job, payload, options).to_its_end(_Breaking(point))
        found = await _read(outside)
        reruns.append(Rerun(point, tuple(attempts), found, _problem(attempts, expected, found, unknown)))
    report = RerunReport(tuple(reruns), expected, left_out=len(points) - len(chosen))
    return _reported(job, report, tried=f"{len(chosen)} failpoints")


def run_twice_sync(
    job: JobType[PayloadT, Any],
    payload: PayloadT,
    *,
    outside: Snapshot,
    times: int = 2,
    **options: Unpack[RunOptions],
) -> RerunReport:
    """`run_twice` for tests without an event loop. Raises InvalidOption on one."""
    return without_loop(run_twice(job, payload, outside=outside, times=times, **options))


def run_at_failpoints_sync(
    job: JobType[PayloadT, Any],
    payload: PayloadT,
    *,
    outside: Snapshot,
    reset: Reset,
    unknown: Literal["fail", "allow"] = "fail",
    most: int = 200,
    **options: Unpack[RunOptions],
) -> RerunReport:
    """`run_at_failpoints` for tests without an event loop. Raises InvalidOption on one."""
    return without_loop(
        run_at_failpoints(job, payload, outside=outside, reset=reset, unknown=unknown, most=most, **options)
    )


# Breaking off ---------------------------------------------------------------------------------------------------------------------


class _Died(BaseException):
    """Stands for the end of the process. No Exception, so that handlers do not take it for an error of theirs."""


class _Breaking:
    """Counts the points that a job passes, and breaks it off at one of them."""

    def __init__(self, point: Failpoint | None) -> None:
        self._point = point
        self.passed: list[str] = []
        self.context: DetachedContext | None = None
        self._dead: DetachedContext | None = None

    def at(self, name: str) -> None:
        """Called at each point. Raises _Died there, and ever after in what is left of that attempt."""
        if self._dead is not None and self._dead is self.context:
            raise _Died
        self.passed.append(name)
        point = self._point
        if point is None or len(self.passed) != point.number:
            return
        self._dead = self.context
        if point.saved and self.context is not None:
            self.context.keep()
        raise _Died


class _Run:
    """One job, from its first attempt to its end. Deliveries share what the ledger would keep: effects and saved state."""

    def __init__(self, job: JobType[PayloadT, Any], payload: PayloadT, options: RunOptions) -> None:
        for name in ("context", "attempt", "at"):
            if name in options:
                raise InvalidOption(f"{name} is not the caller's to say here: the job runs several times")
        self._job: JobType[Any, Any] = job
        self._payload = payload
        self._options = options
        self._effects = options.get("effects") or MemoryEffects()
        self._state = options.get("state") or {}
        self._job_id: str | None = options.get("job_id")

    async def to_its_end(self, breaking: _Breaking) -> list[JobAttempt[Any]]:
        """Deliver the job until it has ended; returns the attempts that came to an end of their own."""
        attempts: list[JobAttempt[Any]] = []
        number = 1
        for _ in range(_MOST_ATTEMPTS):
            context = breaking.context = self._context(number, breaking)
            try:
                attempt = await attempt_job(self._job, self._payload, context=context)
                breaking.at(f"the end of attempt {number}, {attempt.status}")
            except _Died:
                self._state = context.saved_state  # what was not saved is lost
                continue
            attempts.append(attempt)
            if attempt.status == "completed":
                self._state = context.saved_state
                return attempts
            context.keep()  # an attempt that ends without completing the job leaves its state
            self._state = context.saved_state
            if attempt.ended:
                return attempts
            number += attempt.charged
        raise AssertionError(
            f"{self._job.name}: the job has not ended after {_MOST_ATTEMPTS} attempts; the last: {attempts[-1]}"
        )

    def _context(self, number: int, breaking: _Breaking) -> DetachedContext:
        options: RunOptions = {**self._options, "attempt": number, "effects": self._effects, "state": self._state}
        if self._job_id is not None:
            options["job_id"] = self._job_id
        options["at"] = breaking.at
        context = context_for(self._job, accepted(self._job, self._payload), options)
        self._job_id = context.job_id
        return context


def _points(passed: Sequence[str]) -> Iterator[Failpoint]:
    for number, name in enumerate(passed, 1):
        yield Failpoint(number, name)
        if name.startswith("progress "):
            yield Failpoint(number, name, saved=True)


def _evenly(points: Sequence[Failpoint], most: int) -> list[Failpoint]:
    """At most so many of the points, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    if most == 1:
        return [points[-1]]
    return [points[round(place * (len(points) - 1) / (most - 1))] for place in range(most)]


# Comparing ------------------------------------------------------------------------------------------------------------------------


async def _called(function: Callable[[], Any]) -> Any:
    value = function()
    return await value if inspect.isawaitable(value) else value


async def _read(outside: Snapshot) -> Any:
    """A copy: what is read may well be the very dict that the handler goes on changing."""
    return copy.deepcopy(await _called(outside))


def _problem(
    attempts: Sequence[JobAttempt[Any]], expected: Any, found: Any, unknown: Literal["fail", "allow"]
) -> str | None:
    problem = _unended(attempts)
    if problem is None:
        return _difference(expected, found)
    error = attempts[-1].error
    if not isinstance(error, EffectUnknown):
        return problem
    if unknown == "allow":
        return None
    return f"{problem}\nNobody can tell whether {error.key!r} happened. Give ctx.once a look_up that finds out; or pass unknown='allow', if somebody is to look at such a job"


def _unended(attempts: Sequence[JobAttempt[Any]]) -> str | None:
    last = attempts[-1]
    return None if last.status == "completed" else str(last)


def _difference(expected: Any, found: Any) -> str | None:
    if found == expected:
        return None
    lines = difflib.unified_diff(
        pprint.pformat(expected, width=100).splitlines(),
        pprint.pformat(found, width=100).splitlines(),
        "after one undisturbed run",
        "now",
        lineterm="",
    )
    return "what is outside is different:\n" + "\n".join(lines)


def _reported(job: JobType[Any, Any], report: RerunReport, *, tried: str) -> RerunReport:
    """The report, or AssertionError with all that is wrong."""
    wrong = [rerun for rerun in report.reruns if rerun.problem is not None]
    if not wrong:
        return report
    lines = [f"{job.name} may not run again as it is: {len(wrong)} of {tried} went wrong."]
    for rerun in wrong[:_MOST_FAILURES]:
        title = "" if rerun.at is None else f"The process dies at point {rerun.at.number}: {rerun.at}\n"
        lines.append(f"\n{title}{rerun.problem}")
    if len(wrong) > _MOST_FAILURES:
        lines.append("\nLikewise at: " + "; ".join(str(rerun.at) for rerun in wrong[_MOST_FAILURES:]))
    raise AssertionError("\n".join(lines))
