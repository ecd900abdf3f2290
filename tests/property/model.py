"""One queue in plain Python: what each command is to do to it, step by step, and nothing of how the engine does it.

The model stands still between commands, knows one caller at a time, and is handed the time. Its parts have the names of
the stored ones, so that what it holds can be laid beside the server's keys. Times are milliseconds. Jobs are named by
their stored ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from taurine.options import ChildFailurePolicy, Dedup, Keep
from taurine.queue.turn import Completed, Failed, Outcome, Released, RetryLater, RetryNow, Snoozed, WaitingForChildren

__all__ = ["Ask", "Model", "ModelJob", "Run", "TurnResult"]

Collection: TypeAlias = Literal["wait", "prioritized", "delayed", "active", "waiting-children", "completed", "failed"]
_COLLECTIONS: tuple[Collection, ...] = get_args(Collection)
FinishedSet: TypeAlias = Literal["completed", "failed"]

_BY_HAND = 2**53 - 1
"""What the limiter counts while a queue is limited by hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A job as a producer asks for it."""

    data: int
    stored_id: str = ""
    delay: int = 0
    priority: int = 0
    lifo: bool = False
    attempts: int = 1
    backoff: int = 0
    """A fixed pause; 0 for none."""
    keep_completed: bool | int | Keep | None = None
    keep_failed: bool | int | Keep | None = None
    timestamp: int = 0
    """When the job says it was created; 0 leaves that to the queue."""
    dedup: Dedup | None = None
    parent: str = ""
    policy: ChildFailurePolicy | None = None


@dataclass(slots=True)
class ModelJob:
    """A stored job: its hash, its lease and its children."""

    id: str
    ask: Ask
    created: int
    delay: int
    priority: int
    dedup_id: str | None = None
    scheduler: str | None = None
    parent: str = ""
    policy: ChildFailurePolicy | None = None
    started: int = 0
    made: int = 0
    stalls: int = 0
    processed_at: int | None = None
    finished_at: int | None = None
    result: str | None = None
    reason: str | None = None
    traces: str | None = None
    deferred: str | None = None
    progress: int | None = None
    data: int | None = None
    """What the data was changed to."""
    logs: list[str] = field(default_factory=list)
    lock: str | None = None
    pending: set[str] = field(default_factory=set)
    processed: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    unsuccessful: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Owner:
    """Who holds a deduplication id; `expires` when the server ends it by itself."""

    id: str
    expires: bool


class Follower(NamedTuple):
    """The job that is to follow the holder of a deduplication id."""

    stored_id: str
    ask: Ask
    released_by: str | None = None
    """Whom it follows, once that one has let go of the id."""


@dataclass(slots=True)
class ModelScheduler:
    every: int
    offset: int
    due: int
    """Of the armed run."""
    data: int
    runs: int = 1


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What a turn is to answer. wait: -1 blocked, 0 nothing, 1 for any time of a limit that is reached."""

    codes: list[int]
    claimed: list[tuple[str, int]]
    wait: int
    due: int


@dataclass(slots=True)
class Batch:
    """What a turn does when all its attempts are settled."""

    front: list[str] = field(default_factory=list)
    """Jobs that go back in front of `wait`, together and in this order."""
    parents: list[str] = field(default_factory=list)
    """Parents that may have lost their last child."""
    kept: dict[FinishedSet, set[str]] = field(default_factory=lambda: {"completed": set(), "failed": set()})
    """The retention policies that jobs of each set ended under."""


Attempt: TypeAlias = tuple[str, str, Outcome]
Run: TypeAlias = tuple[str, int]
"""A scheduler's run: its job's id and its delay."""


class Model:
    """The queue. `wait` and `active` are as they are stored, the newest first."""

    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.wait: list[str] = []
        self.active: list[str] = []
        self.prioritized: dict[str, tuple[int, int]] = {}
        """Priority, and order inside it."""
        self.delayed: dict[str, tuple[int, int]] = {}
        """Due time, and order inside the millisecond."""
        self.waiting_children: dict[str, int] = {}
        self.completed: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.suspects: set[str] = set()
        self.owners: dict[str, Owner] = {}
        self.followers: dict[str, Follower] = {}
        """Per deduplication id: the id that the job would have had, and the job."""
        self.schedulers: dict[str, ModelScheduler] = {}
        self.last_number = 0
        self.paused = False
        self.concurrency: int | None = None
        self.rate: int | None = None
        self.starts: int | None = None
        """Starts in the running window; None when no window runs."""
        self._placed = 0

    # Looking -------------------------------------------------------------------------------------------------------------------

    def line(self, collection: Collection) -> list[str]:
        """The ids of a collection, the next to run first, or the first to have ended."""
        if collection in ("wait", "active"):
            return list(reversed(self.wait if collection == "wait" else self.active))
        return [stored_id for stored_id, _ in sorted(self.scored(collection).items(), key=lambda item: item[::-1])]

    def scored(self, collection: Collection) -> dict[str, Any]:
        """A sorted set: what its ids are ordered by."""
        return {
            "prioritized": self.prioritized,
            "delayed": self.delayed,
            "waiting-children": self.waiting_children,
            "completed": self.completed,
            "failed": self.failed,
        }[collection]

    def place_of(self, stored_id: str) -> Collection | None:
        found: list[Collection] = [place for place in _COLLECTIONS if stored_id in self.line(place)]
        assert len(found) <= 1, f"the model itself has {stored_id} in {found}"
        return next(iter(found), None)

    @property
    def blocked(self) -> bool:
        return self.paused or (self.concurrency is not None and len(self.active) >= self.concurrency)

    @property
    def limited(self) -> bool:
        """True while as many jobs have started as the running window allows."""
        return self.starts is not None and self.starts >= (self.rate or _BY_HAND)

    @property
    def claimable(self) -> bool:
        return bool(self.wait or self.prioritized)

    @property
    def next_due(self) -> int:
        return min((due for due, _ in self.delayed.values()), default=0)

    def armed(self, stored_id: str) -> bool:
        """True for the next run of a scheduler."""
        return any(stored_id == _run_id(name, scheduler.due) for name, scheduler in self.schedulers.items())

    # Adding --------------------------------------------------------------------------------------------------------------------

    def add(self, asks: Sequence[Ask], now: int) -> list[tuple[str, bool] | int]:
        """One batch. For each job its id and whether another stood in its way, or a code."""
        first = self.last_number + 1
        self.last_number += len(asks)
        return [self._add(ask, ask.stored_id or str(first + position), now) for position, ask in enumerate(asks)]

    def _add(self, ask: Ask, stored_id: str, now: int) -> tuple[str, bool] | int:
        if ask.parent and ask.parent not in self.jobs:
            return -5
        if ask.stored_id and stored_id in self.jobs:
            return self._attach(self.jobs[stored_id], ask, now)
        if ask.dedup and (owner := self._duplicate_of(ask.dedup, ask, stored_id, now)):
            return owner, True
        job = self._store(stored_id, ask, ask.timestamp or now, ask.delay)
        job.parent, job.policy = ask.parent, ask.policy
        if ask.parent:
            self.jobs[ask.parent].pending.add(stored_id)
        self._place_new(job, job.created + ask.delay if ask.delay else 0)
        return stored_id, False

    def _attach(self, job: ModelJob, ask: Ask, now: int) -> tuple[str, bool] | int:
        if job.parent and job.parent != ask.parent and job.parent in self.jobs:
            return -7 if ask.parent else (job.id, True)
        if ask.parent:
            parent = self.jobs[ask.parent]
            if job.id in self.completed:
                parent.processed[job.id] = job.result or "null"
                self._release_if_done(parent.id, now)
            else:
                parent.pending.add(job.id)
            job.parent, job.policy = ask.parent, ask.policy
        return job.id, True

    def _store(self, stored_id: str, ask: Ask, created: int, delay: int) -> ModelJob:
        job = ModelJob(stored_id, ask, created, delay, ask.priority, ask.dedup.id if ask.dedup else None)
        self.jobs[stored_id] = job
        return job

    def _place_new(self, job: ModelJob, due: int) -> None:
        if due:
            self._delay(job.id, due)
        else:
            self._ready(job.id, first=job.ask.lifo)

    # Deduplication -------------------------------------------------------------------------------------------------------------

    def _duplicate_of(self, dedup: Dedup, ask: Ask, stored_id: str, now: int) -> str | None:
        """The job in the newcomer's way, or None when it is to be added."""
        owner = self.owners.get(dedup.id)
        ttl = dedup.ttl is not None and not dedup.keep_last_if_active
        if owner is None or (not owner.expires and owner.id not in self.jobs):
            self.owners[dedup.id] = Owner(stored_id, ttl)
            self.followers.pop(dedup.id, None)
            return None
        if dedup.keep_last_if_active and self._is_followed(dedup, owner.id):
            self.followers[dedup.id] = Follower(stored_id, ask)
            owner.expires = False
            return owner.id
        if dedup.replace:
            if not self._waits_under(dedup.id, owner.id):
                return owner.id
            self._discard(owner.id, now)
            self.followers.pop(dedup.id, None)
            self.owners[dedup.id] = Owner(stored_id, ttl if dedup.extend else owner.expires)
            return None
        if dedup.extend and ttl:
            owner.expires = True
        if dedup.reschedule and self._waits_under(dedup.id, owner.id):
            self.jobs[owner.id].delay = ask.delay
            self._delay(owner.id, (ask.timestamp or now) + ask.delay)
        return owner.id

    def _waits_under(self, dedup_id: str, owner: str) -> bool:
        """True for a delayed job of this deduplication id.

        A throttle outlives its job, whose id another one may have by now.
        """
        return owner in self.delayed and self.jobs[owner].dedup_id == dedup_id

    def _is_followed(self, dedup: Dedup, owner: str) -> bool:
        """True when a duplicate is to run after the owner: it runs now, or was to be followed when it last did."""
        if owner in self.active:
            return True
        return dedup.id in self.followers and not (dedup.replace and owner in self.delayed)

    def _discard(self, stored_id: str, now: int) -> None:
        """A delayed job that a newcomer replaces."""
        job = self._delete(stored_id)
        if job.parent:
            self._unlink(job, now)

    def _end_deduplication(self, job: ModelJob, now: int) -> None:
        """The job has ended for good: its id is free, unless its time runs, and the job that is to follow is added."""
        if job.dedup_id is None:
            return
        owner = self.owners.get(job.dedup_id)
        if owner and owner.id != job.id and owner.id in self.jobs:
            return
        if owner and owner.id == job.id and not owner.expires:
            del self.owners[job.dedup_id]
        if job.dedup_id not in self.followers:
            return
        stored_id, ask, _ = self.followers.pop(job.dedup_id)
        self.last_number += 1
        if stored_id in self.jobs:
            stored_id = str(self.last_number)
        self.owners[job.dedup_id] = Owner(stored_id, expires=False)
        follower = self._store(stored_id, ask, now, ask.delay)
        self._place_new(follower, now + ask.delay if ask.delay else 0)

    def _drop_deduplication(self, job: ModelJob) -> None:
        """The job goes away without having ended."""
        dedup_id = job.dedup_id
        if dedup_id in self.owners and self.owners[dedup_id].id == job.id:
            del self.owners[dedup_id]
            self.followers.pop(dedup_id, None)
        elif dedup_id in self.followers and self.followers[dedup_id].released_by == job.id:
            del self.followers[dedup_id]

    def remove_deduplication(self, dedup_id: str) -> bool:
        owner = self.owners.pop(dedup_id, None)
        if owner is None:
            return False
        if dedup_id in self.followers:
            self.followers[dedup_id] = self.followers[dedup_id]._replace(released_by=owner.id)
        return True

    def release_deduplication(self, stored_id: str) -> bool:
        dedup_id = self.jobs[stored_id].dedup_id
        if dedup_id is None or dedup_id not in self.owners or self.owners[dedup_id].id != stored_id:
            return False
        return self.remove_deduplication(dedup_id)

    # Placing -------------------------------------------------------------------------------------------------------------------

    def _ready(self, stored_id: str, *, first: bool) -> None:
        priority = self.jobs[stored_id].priority
        if priority:
            self._placed += 1
            self.prioritized[stored_id] = (priority, self._placed)
        elif first:
            self.wait.append(stored_id)
        else:
            self.wait.insert(0, stored_id)

    def _front(self, stored_id: str) -> None:
        """Before all others of its priority; those that were put there too go by their ids."""
        priority = self.jobs[stored_id].priority
        if priority:
            self.prioritized[stored_id] = (priority, 0)
        else:
            self.wait.append(stored_id)

    def _delay(self, stored_id: str, due: int) -> None:
        self.delayed.pop(stored_id, None)
        same = [order for at, order in self.delayed.values() if at == due]
        self.delayed[stored_id] = (due, max(same) + 1 if same else 0)

    def _promote_due(self, now: int) -> None:
        for stored_id in self.line("delayed"):
            if self.delayed[stored_id][0] <= now:
                self._promote(stored_id)

    def _promote(self, stored_id: str) -> None:
        del self.delayed[stored_id]
        self.jobs[stored_id].delay = 0
        self._ready(stored_id, first=False)

    def _take_out(self, stored_id: str) -> Collection | None:
        place = self.place_of(stored_id)
        if place == "wait":
            self.wait.remove(stored_id)
        elif place == "active":
            self.active.remove(stored_id)
        elif place is not None:
            del self.scored(place)[stored_id]
        return place

    def _delete(self, stored_id: str) -> ModelJob:
        """The job leaves its place, and all its keys go."""
        self._take_out(stored_id)
        return self.jobs.pop(stored_id)

    # Parents -------------------------------------------------------------------------------------------------------------------

    def _release(self, stored_id: str, now: int) -> None:
        if self.waiting_children.pop(stored_id, None) is None:
            return
        delay = self.jobs[stored_id].delay
        if delay:
            self._delay(stored_id, now + delay)
        else:
            self._ready(stored_id, first=True)

    def _release_if_done(self, stored_id: str, now: int) -> None:
        if stored_id in self.jobs and not self.jobs[stored_id].pending:
            self._release(stored_id, now)

    def _unlink(self, child: ModelJob, now: int) -> None:
        """The child goes away: its parent does not wait for it any longer."""
        parent = self.jobs.get(child.parent)
        if parent and child.id in parent.pending:
            parent.pending.remove(child.id)
            self._release_if_done(parent.id, now)

    def _relink(self, child: ModelJob) -> None:
        """The child runs again: its parent waits for it again."""
        parent = self.jobs.get(child.parent)
        if parent is None:
            return
        parts: tuple[dict[str, Any], ...] = (parent.unsuccessful, parent.ignored, parent.processed)
        ended = [part.pop(child.id) for part in parts if child.id in part]
        if ended:
            parent.pending.add(child.id)

    def _child_failed(self, child: ModelJob, reason: str, now: int) -> None:
        parent = self.jobs.get(child.parent)
        if parent is None or child.policy is None or child.id not in parent.pending:
            return
        parent.pending.remove(child.id)
        if child.policy == "fail":
            parent.unsuccessful[child.id] = now
            if parent.id in self.delayed:
                del self.delayed[parent.id]
                parent.delay = 0
                self.waiting_children[parent.id] = now
            if parent.id not in self.failed:
                parent.deferred = child.id
            self._release(parent.id, now)
        elif child.policy == "continue":
            parent.ignored[child.id] = reason
            self._release(parent.id, now)
        else:
            if child.policy == "ignore":
                parent.ignored[child.id] = reason
            self._release_if_done(parent.id, now)

    # A turn --------------------------------------------------------------------------------------------------------------------

    def turn(self, attempts: Sequence[Attempt], *, token: str, want: int, now: int) -> TurnResult:
        """Settle, promote what is due, claim."""
        codes = self._settle_all(attempts, now)
        self._promote_due(now)
        due, wait, claimed = self.next_due, 0, list[tuple[str, int]]()
        if want:
            free, wait = self._budget(want)
            claimed = [self._start(token, now) for _ in range(min(free, len(self.wait) + len(self.prioritized)))]
            starts = sum(self.jobs[stored_id].deferred is None for stored_id, _ in claimed)
            if self.rate is not None and starts:
                self.starts = (self.starts or 0) + starts
        return TurnResult(codes, claimed, wait, due)

    def _budget(self, want: int) -> tuple[int, int]:
        if self.limited:
            return 0, 1
        if self.blocked:
            return 0, -1
        if self.concurrency is not None:
            want = min(want, self.concurrency - len(self.active))
        if self.rate is not None:
            want = min(want, self.rate - (self.starts or 0))
        return want, 0

    def _start(self, token: str, now: int) -> tuple[str, int]:
        stored_id = self.wait.pop() if self.wait else self.line("prioritized")[0]
        self.prioritized.pop(stored_id, None)
        job = self.jobs[stored_id]
        job.lock, job.processed_at, job.started = token, now, job.started + 1
        self.active.insert(0, stored_id)
        return stored_id, job.started

    def _settle_all(self, attempts: Sequence[Attempt], now: int) -> list[int]:
        """Parents are judged by the children that they had before the batch, and wait for them before any of these is
        settled.
        """
        at_first = {stored_id: self._children_code(stored_id) for stored_id, _, _ in attempts}
        codes = [0] * len(attempts)
        batch = Batch()
        waits = [isinstance(outcome, WaitingForChildren) and at_first[name] == -4 for name, _, outcome in attempts]
        order = sorted(range(len(attempts)), key=lambda position: not waits[position])
        for position in order:
            stored_id, token, outcome = attempts[position]
            code = self._refusal(stored_id, token, outcome, at_first[stored_id])
            codes[position] = code
            if code == 0:
                self._settle(self.jobs[stored_id], outcome, now, batch)
        self.wait += reversed(batch.front)
        for parent in batch.parents:  # a parent that is released is in line: the second time changes nothing
            self._release_if_done(parent, now)
        for ended, policies in batch.kept.items():
            for policy in policies:
                self._evict(ended, policy, now)
        return codes

    def _children_code(self, stored_id: str) -> int:
        job = self.jobs.get(stored_id)
        if job is None:
            return 0
        return -9 if job.unsuccessful else -4 if job.pending else 0

    def _refusal(self, stored_id: str, token: str, outcome: Outcome, children: int) -> int:
        job = self.jobs.get(stored_id)
        if job is None:
            return -1
        if isinstance(outcome, Completed) and children:
            return children
        if isinstance(outcome, WaitingForChildren) and children != -4:
            return children or 1
        if job.lock is None:
            return -2
        return 0 if job.lock == token else -6

    def _settle(self, job: ModelJob, outcome: Outcome, now: int, batch: Batch) -> None:
        job.lock = None
        self.suspects.discard(job.id)
        self.active.remove(job.id)
        match outcome:
            case Completed():
                self._end_deduplication(job, now)
                parent = self.jobs.get(job.parent)
                if parent and job.id in parent.pending:
                    parent.pending.remove(job.id)
                    parent.processed[job.id] = outcome.result
                    batch.parents.append(parent.id)
                job.result = outcome.result
                self._finish(job, "completed", outcome.keep, now, batch)
            case Failed():
                job.reason, job.traces = outcome.reason, outcome.stacktrace
                self._end_deduplication(job, now)
                self._child_failed(job, outcome.reason, now)
                job.deferred = None
                self._finish(job, "failed", outcome.keep, now, batch)
            case RetryNow():
                job.reason, job.traces, job.made = outcome.reason, outcome.stacktrace, job.made + 1
                self._ready(job.id, first=outcome.lifo)
            case RetryLater():
                job.reason, job.traces, job.made = outcome.reason, outcome.stacktrace, job.made + 1
                job.delay = outcome.pause_ms
                self._delay(job.id, now + outcome.pause_ms)
            case Snoozed():
                job.delay = outcome.pause_ms
                self._delay(job.id, now + outcome.pause_ms)
            case Released() if job.priority:
                self._front(job.id)
            case Released():
                batch.front.append(job.id)
            case WaitingForChildren():
                self.waiting_children[job.id] = now

    def _finish(self, job: ModelJob, ended: FinishedSet, keep: str, now: int, batch: Batch) -> None:
        job.made += 1
        if keep.startswith("0:"):
            self._delete(job.id)
            self._unlink(job, now)
            return
        job.finished_at = now
        self.scored(ended)[job.id] = now
        batch.kept[ended].add(keep)

    def _evict(self, ended: FinishedSet, policy: str, now: int) -> None:
        count, age, _ = policy.split(":")
        line = self.line(ended)
        gone = line[: max(0, len(line) - int(count))] if count else []
        gone += [stored_id for stored_id in line if age and self.scored(ended)[stored_id] <= now - int(age)]
        for stored_id in dict.fromkeys(gone):
            job = self._delete(stored_id)
            if ended == "failed":
                self._unlink(job, now)

    # Leases --------------------------------------------------------------------------------------------------------------------

    def renew(self, stored_id: str, token: str, started: int) -> bool:
        job = self.jobs.get(stored_id)
        if job is None:
            return False
        lapsed = job.lock is None and stored_id in self.active and job.started == started
        if job.lock != token and not lapsed:
            return False
        job.lock = token
        self.suspects.discard(stored_id)
        return True

    def lapse(self, stored_id: str) -> None:
        """The lease runs out."""
        self.jobs[stored_id].lock = None

    def write_code(self, stored_id: str, token: str, started: int) -> int:
        """Whether a running job may write about itself."""
        job = self.jobs.get(stored_id)
        if job is None:
            return -1
        if job.lock is None:
            return 0 if job.started == started and stored_id in self.active else -2
        return 0 if job.lock == token else -6

    def stalled(self) -> set[str]:
        """What the next sweep is to put back."""
        return {job for job in self.suspects if job in self.active and self.jobs[job].lock is None}

    def sweep(self, put_back: Sequence[str], max_stalled: int) -> None:
        """`put_back` is `stalled()` in the order that the engine chose."""
        for stored_id in put_back:
            job = self.jobs[stored_id]
            job.stalls += 1
            if job.stalls > max_stalled and not self.armed(stored_id):
                job.deferred = "stalled"
            self.active.remove(stored_id)
            self.wait.append(stored_id)
        self.suspects = set(self.active)

    # One job -------------------------------------------------------------------------------------------------------------------

    def promote(self, stored_id: str) -> int:
        if stored_id not in self.jobs:
            return -1
        if stored_id not in self.delayed:
            return -3
        self._promote(stored_id)
        return 0

    def change_delay(self, stored_id: str, delay: int, now: int) -> int:
        if stored_id not in self.jobs:
            return -1
        if stored_id not in self.delayed:
            return -3
        self.jobs[stored_id].delay = delay
        self._delay(stored_id, now + delay)
        return 0

    def change_priority(self, stored_id: str, priority: int, *, first: bool) -> int:
        if stored_id not in self.jobs:
            return -1
        self.jobs[stored_id].priority = priority
        if self.place_of(stored_id) not in ("wait", "prioritized"):
            return 0
        self._take_out(stored_id)
        if first:
            self._front(stored_id)
        else:
            self._ready(stored_id, first=False)
        return 0

    def retry(self, stored_id: str, ended: FinishedSet, *, reset_made: bool, reset_started: bool) -> int:
        if stored_id not in self.jobs:
            return -1
        if stored_id not in self.scored(ended):
            return -3
        job = self.jobs[stored_id]
        job.made = 0 if reset_made else job.made
        job.started = 0 if reset_started else job.started
        self._rerun(job, ended, first=job.ask.lifo)
        return 0

    def _rerun(self, job: ModelJob, ended: FinishedSet, *, first: bool) -> None:
        del self.scored(ended)[job.id]
        job.finished_at = job.processed_at = None
        job.delay = 0
        if ended == "failed":
            job.reason = None
        else:
            job.result = None
        self._relink(job)
        self._ready(job.id, first=first)

    def remove(self, stored_id: str, *, children: bool, now: int) -> int:
        """1 removed, 0 leased, -1 not stored, -8 the next run of a scheduler."""
        if stored_id not in self.jobs:
            return -1
        if self.armed(stored_id):
            return -8
        doomed: list[str] = []
        self._family(stored_id, children, doomed, set())
        if any(self.jobs[each].lock for each in doomed):
            return 0
        for each in doomed:
            self._take_out(each)
        for each in doomed:
            self._cut_ties(self.jobs[each], now)
            del self.jobs[each]
            self.suspects.discard(each)
        return 1

    def _family(self, stored_id: str, children: bool, into: list[str], seen: set[str]) -> None:
        """The job behind its children."""
        if stored_id in seen:
            return
        seen.add(stored_id)
        job = self.jobs[stored_id]
        if children:
            for child in sorted({*job.pending, *job.processed, *job.ignored, *job.unsuccessful}):
                if child in self.jobs and self.jobs[child].parent == stored_id:
                    self._family(child, children, into, seen)
        into.append(stored_id)

    def _cut_ties(self, job: ModelJob, now: int) -> None:
        self._drop_deduplication(job)
        if job.parent:
            self._unlink(job, now)

    # Many jobs -----------------------------------------------------------------------------------------------------------------

    def drain(self, *, delayed: bool, now: int) -> int:
        """A parent that waits for the last of the drained jobs goes with it."""
        gone = 0
        collections: tuple[Collection, ...] = ("wait", "prioritized", "delayed")
        for collection in collections if delayed else collections[:2]:
            doomed = [stored_id for stored_id in self.line(collection) if not self.armed(stored_id)]
            for stored_id in doomed:
                self._take_out(stored_id)
            for stored_id in doomed:  # grows
                job = self.jobs[stored_id]
                self._drop_deduplication(job)
                parent = self.jobs.get(job.parent)
                if parent and stored_id in parent.pending:
                    parent.pending.remove(stored_id)
                    if not parent.pending and self.waiting_children.pop(parent.id, None) is not None:
                        doomed.append(parent.id)
            for stored_id in doomed:
                del self.jobs[stored_id]
            gone += len(doomed)
        return gone

    def clean(self, collection: Collection, grace: int, limit: int | None, now: int) -> list[str]:
        gone: list[str] = []
        for stored_id in self.line(collection):
            if len(gone) != limit and self._may_go(self.jobs[stored_id], collection, now - grace):
                gone.append(stored_id)
        for stored_id in gone:
            self._take_out(stored_id)
        for stored_id in gone:
            self._cut_ties(self.jobs[stored_id], now)
        for stored_id in gone:
            del self.jobs[stored_id]
            self.suspects.discard(stored_id)
        return gone

    def _may_go(self, job: ModelJob, collection: Collection, cutoff: int) -> bool:
        if collection in ("completed", "failed"):
            return self.scored(collection)[job.id] <= cutoff
        if self.armed(job.id) or (collection == "active" and job.lock):
            return False
        return (job.created if job.processed_at is None else job.processed_at) <= cutoff

    def retry_all(self, ended: FinishedSet, before: int) -> int:
        line = [stored_id for stored_id in self.line(ended) if self.scored(ended)[stored_id] <= before]
        for stored_id in line:
            self._rerun(self.jobs[stored_id], ended, first=False)
        return len(line)

    def promote_all(self) -> int:
        line = self.line("delayed")
        for stored_id in line:
            self._promote(stored_id)
        return len(line)

    def obliterate(self) -> int:
        """All goes but the deduplication ids whose time runs for jobs that are gone already."""
        held = {job.dedup_id for job in self.jobs.values()}
        gone, owners = len(self.jobs), {name: owner for name, owner in self.owners.items() if name not in held}
        followers = {name: follower for name, follower in self.followers.items() if name not in held}
        self.__init__()
        self.owners, self.followers = owners, followers
        return gone

    # Schedulers ----------------------------------------------------------------------------------------------------------------

    def upsert_scheduler(self, name: str, every: int, data: int, now: int) -> Run:
        """The next run keeps its time if the interval stays; else it is due at once."""
        before = self.schedulers.get(name)
        armed = _run_id(name, before.due) if before else ""
        waits = before is not None and (armed not in self.jobs or self.jobs[armed].started == 0)
        due = now
        if before and before.every == every:
            kept = waits and (armed in self.jobs or before.due >= now)
            due = before.due if kept else self._following(before, now)
        own = before.due if before and waits else None
        while due != own and _run_id(name, due) in self.jobs:
            due += every
        if waits and armed in self.jobs:
            self._drop_deduplication(self.jobs[armed])
            self._delete(armed)
        offset = before.offset if before and before.every == every else due % every
        self.schedulers[name] = ModelScheduler(every, offset, due, data, before.runs if before else 1)
        return self._arm_run(name, now)

    def advance(self, name: str, claimed: str, now: int) -> str | None:
        """A run was started: the one after it is armed. None when the started one is not the armed one."""
        scheduler = self.schedulers.get(name)
        if scheduler is None or claimed != _run_id(name, scheduler.due):
            return None
        scheduler.due = self._following(scheduler, now)
        while _run_id(name, scheduler.due) in self.jobs:
            scheduler.due += scheduler.every
        scheduler.runs += 1
        return self._arm_run(name, now)[0]

    def remove_scheduler(self, name: str) -> bool:
        scheduler = self.schedulers.pop(name, None)
        if scheduler is None:
            return False
        armed = self.jobs.get(_run_id(name, scheduler.due))
        if armed is not None and armed.started == 0:
            self._drop_deduplication(armed)
            self._delete(armed.id)
        return True

    def _following(self, scheduler: ModelScheduler, now: int) -> int:
        """The slot after the armed one; those that have passed are skipped."""
        due = scheduler.due + scheduler.every
        if due >= now:
            return due
        slot = now // scheduler.every * scheduler.every + scheduler.offset
        return slot if slot > now else slot + scheduler.every

    def _arm_run(self, name: str, now: int) -> Run:
        scheduler = self.schedulers[name]
        stored_id, delay = _run_id(name, scheduler.due), max(0, scheduler.due - now)
        self.last_number += 1
        job = self._store(stored_id, Ask(data=scheduler.data), now, delay)
        job.scheduler = name
        self._place_new(job, scheduler.due if delay else 0)
        return stored_id, delay


def _run_id(name: str, due: int) -> str:
    return f"repeat:{name}:{due}"
