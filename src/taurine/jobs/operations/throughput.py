"""What jobs came to in a while, or ever: outcomes, rates, and how long they waited and ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from taurine.clock import now_ms
from taurine.errors import InvalidOption
from taurine.jobs.backend import Backend
from taurine.ledger.tallies import ABOVE_ALL, MINUTE, Outcome, TallyCount, tallies_since

__all__ = ["Distribution", "Throughput", "throughput_of", "throughputs", "totals_of"]

_LONGEST_WINDOW = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How durations were spread.

    buckets: of each bound in seconds, and of infinity, how many were above the one before and not above it. total:
    their sum in seconds.
    """

    buckets: Mapping[float, int] = field(default_factory=dict[float, int])
    total: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.buckets.values())

    @property
    def mean(self) -> float | None:
        """Seconds; None without any."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The bound in seconds below which at least this share lies, such as 0.95: no more exact than the buckets; None
        without any. Raises InvalidOption.
        """
        if not 0 <= share <= 1:
            raise InvalidOption(f"expected a share from 0 to 1, got {share!r}")
        below, wanted = 0, share * self.count
        for bound, count in sorted(self.buckets.items()):
            below += count
            if count and below >= wanted:
                return bound
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What the jobs of one queue came to.

    type: of one job type; None for all of the queue's. seconds: the window that was counted; None for all time.

    outcomes: how many attempts ended in each way; see `Outcome`. wait: of jobs, from when each was due to its first
    start. run: of attempts.
    """

    queue: str
    type: str | None
    seconds: float | None
    outcomes: Mapping[Outcome, int]
    wait: Distribution
    run: Distribution

    def of(self, outcome: Outcome) -> int:
        """How many ended in this way."""
        return self.outcomes.get(outcome, 0)

    @property
    def ended(self) -> int:
        """Jobs that completed or failed for good."""
        return self.of("completed") + self.of("failed")

    @property
    def failure_rate(self) -> float:
        """Of the jobs that ended, the share that failed for good: 0 to 1; 0 where none ended."""
        return self.of("failed") / self.ended if self.ended else 0.0

    @property
    def per_second(self) -> float | None:
        """Jobs that ended in a second, on average; None for all time."""
        return None if self.seconds is None else self.ended / self.seconds


async def throughput_of(backend: Backend, *, window: float) -> list[Throughput]:
    """See `Taurine.throughput`."""
    if not 0 < window <= _LONGEST_WINDOW:
        raise InvalidOption(f"expected a window above 0 and up to {_LONGEST_WINDOW:g} s, got {window:g}")
    await backend.ready()
    now = now_ms(backend.clock)
    first = now - round(window * 1000)
    first -= first % MINUTE
    counts = await backend.database.read(lambda connection: tallies_since(connection, first))
    seconds = max(1, now - first) / 1000
    found = {one.queue: one for one in throughputs(counts, by_type=False, seconds=seconds)}
    return [found.get(name) or _none(name, seconds) for name in sorted({*backend.catalog.queues, *found})]


async def totals_of(backend: Backend) -> list[Throughput]:
    """See `Taurine.totals`."""
    await backend.ready()
    counts = await backend.database.read(lambda connection: tallies_since(connection, None))
    return throughputs(counts, by_type=True)


def throughputs(counts: Iterable[TallyCount], *, by_type: bool, seconds: float | None = None) -> list[Throughput]:
    """What was counted, by queue, or by queue and type. seconds: the window of the counts; None for all time."""
    groups: dict[tuple[str, str | None], list[TallyCount]] = {}
    for count in counts:
        groups.setdefault((count.queue, count.type if by_type else None), []).append(count)
    return [
        _throughput(queue, job_type, seconds, group)
        for (queue, job_type), group in sorted(groups.items(), key=lambda entry: (entry[0][0], entry[0][1] or ""))
    ]


def _throughput(queue: str, job_type: str | None, seconds: float | None, counts: Sequence[TallyCount]) -> Throughput:
    outcomes: dict[Outcome, int] = {}
    sums = {"wait_sum": 0, "run_sum": 0}
    buckets: dict[str, dict[float, int]] = {"wait": {}, "run": {}}
    for count in counts:
        match count.measure:
            case "wait" | "run" as measure:
                found, bound = buckets[measure], _seconds(count.bucket)
                found[bound] = found.get(bound, 0) + count.number
            case "wait_sum" | "run_sum" as measure:
                sums[measure] += count.number
            case outcome:
                outcomes[outcome] = outcomes.get(outcome, 0) + count.number
    return Throughput(
        queue=queue,
        type=job_type,
        seconds=seconds,
        outcomes=outcomes,
        wait=Distribution(buckets=buckets["wait"], total=sums["wait_sum"] / 1000),
        run=Distribution(buckets=buckets["run"], total=sums["run_sum"] / 1000),
    )


def _seconds(bucket: int) -> float:
    return float("inf") if bucket == ABOVE_ALL else bucket / 1000


def _none(queue: str, seconds: float) -> Throughput:
    return Throughput(queue=queue, type=None, seconds=seconds, outcomes={}, wait=Distribution(), run=Distribution())
