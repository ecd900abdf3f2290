"""Random sequences of commands on one queue, and after each of them the queue's API, its counts and its raw keys beside
the model's.

PROPERTY_MINUTES=10 goes on for that long, round after round; PROPERTY_SEED=N starts with a round that failed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis import Redis

from property import keyspace
from property.model import Ask, Collection, FinishedSet, Model
from taurine.errors import JobError, JobLocked, QueueBusy
from taurine.ids import public_id, wire_id
from taurine.options import AddOptions, ChildFailurePolicy, Dedup, Keep, Parent, RateLimit
from taurine.queue import Job, Queue, Worker, reading
from taurine.queue.connection import Connection
from taurine.queue.keys import QueueKeys
from taurine.queue.scheduler import advance
from taurine.queue.states import STATES, JobState
from taurine.queue.store import QueueStore
from taurine.queue.stored_options import keep_text
from taurine.queue.turn import (
    Completed,
    Failed,
    Outcome,
    Released,
    RetryLater,
    RetryNow,
    Snoozed,
    Turn,
    TurnReply,
    WaitingForChildren,
)
from taurine.testing import TestClock

T = TypeVar("T")

LEASE = 3600.0
"""Longer than any run: the server ends no lease, window or throttle by itself. The test does, by deleting the key as
the server would.
"""

COLLECTIONS: dict[JobState, Collection] = {
    "waiting": "wait",
    "prioritized": "prioritized",
    "delayed": "delayed",
    "active": "active",
    "waiting-children": "waiting-children",
    "completed": "completed",
    "failed": "failed",
}

# What is asked for ------------------------------------------------------------------------------------------------------------

picks = st.integers(0, 30)
"""One of the jobs that there are, whatever their number."""
pauses = st.sampled_from([0, 250, 1000, 1250, 60_000])
keeps = st.sampled_from(["::", "::", "::", "0::", "1::", "2::", "0:1000:", ":1000:", "2:2000:"])
dedup_ids = st.sampled_from(["x", "y"])
dedups = st.one_of(
    st.builds(Dedup, dedup_ids),
    st.builds(Dedup, dedup_ids, ttl=st.just(LEASE), extend=st.booleans()),
    st.builds(Dedup, dedup_ids, ttl=st.sampled_from([None, LEASE]), replace=st.just(True), extend=st.booleans()),
    st.builds(Dedup, dedup_ids, reschedule=st.just(True)),
    *[st.builds(Dedup, dedup_ids, keep_last_if_active=st.just(True), replace=st.booleans())] * 3,
)
outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Completed, st.sampled_from(["null", '{"a":[]}']), keeps),
    st.builds(Completed, st.just("1"), st.just("::")),
    *[st.builds(Failed, st.just("why"), st.just('["at"]'), keeps, st.just(1))] * 2,
    st.builds(RetryNow, st.just("why"), st.just("[]"), st.booleans()),
    st.builds(RetryLater, st.just("why"), st.just('["at","at"]'), pauses),
    st.builds(Snoozed, pauses),
    st.just(Released()),
    st.just(WaitingForChildren()),
)


@st.composite
def asks(draw: st.DrawFn) -> tuple[Ask, int, int]:
    """A job to add; which job its parent is, 0 for none; and how long ago it says it was created."""
    dedup = draw(st.one_of(st.none(), st.none(), dedups))
    parent = 0 if dedup else draw(st.sampled_from([0, 0, 0, *range(1, 8)]))
    ask = Ask(
        data=draw(st.integers(1, 9)),
        stored_id=wire_id(draw(st.sampled_from(["a", "b", "c", "2"]))) if draw(st.integers(0, 3)) == 0 else "",
        delay=draw(st.sampled_from([0, 0, 0, 250, 1000, 1000, 60_000])),
        priority=draw(st.sampled_from([0, 0, 0, 1, 2, 2_097_151])),
        lifo=draw(st.booleans()),
        attempts=draw(st.integers(1, 3)),
        backoff=draw(st.sampled_from([0, 1000])),
        keep_completed=draw(st.sampled_from([None, None, True, False, 1, Keep(age=1)])),
        keep_failed=draw(st.sampled_from([None, None, True, 1])),
        dedup=dedup,
        policy=draw(st.sampled_from([None, "fail", "continue", "ignore", "remove"])) if parent else None,
    )
    return ask, parent, draw(st.sampled_from([0, 0, 0, 0, 500, 5000]))


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that was claimed once; what has become of it since is another matter."""

    stored_id: str
    token: str
    started: int
    job: Job


# The machine ------------------------------------------------------------------------------------------------------------------


def command(
    *, weight: int, **arguments: st.SearchStrategy[Any]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Mark a method as one of the commands; it is drawn `weight` times as often as one of weight 1.

    Rules of Hypothesis' own are drawn alike, and each test case does without some: few sequences would come to where
    jobs end.
    """

    def mark(method: Callable[..., None]) -> Callable[..., None]:
        method.__dict__.update(weight=weight, arguments=st.fixed_dictionaries(arguments))
        return method

    return mark


def steps_of(machine: type) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """The name and the arguments of one command."""
    commands = {name: method for name, method in vars(machine).items() if hasattr(method, "weight")}
    names = [name for name, method in commands.items() for _ in range(method.weight)]
    return st.sampled_from(names).flatmap(lambda name: st.tuples(st.just(name), commands[name].arguments))


class Commands(RuleBasedStateMachine):
    """One queue, several workers that claim and settle by hand, an operator; and an idle worker that heeds the marker."""

    def __init__(self, url: str, prefix: str, raw: Redis) -> None:
        super().__init__()
        self.keys = QueueKeys("q", prefix)
        self.raw = raw
        self.clock = TestClock(1_800_000_000.0)
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self.connection = Connection(url)
        self.queue = Queue("q", self.connection, prefix=prefix, clock=self.clock)
        self.worker = Worker("q", None, self.connection, prefix=prefix, clock=self.clock, lease=LEASE)
        self.store = QueueStore(self.keys, self.connection, self.clock)
        self.model = Model()
        self.claims: list[Claim] = []
        self.known_ids: dict[str, None] = {}
        self.numbers = itertools.count(1)
        self.timer = 0
        """When the idle worker is to look again, as its last turn has told it; 0 for no timer."""
        self.waits_for_limit = False

    def teardown(self) -> None:
        self.do(self.connection.close())
        self.runner.close()
        if keys := self.raw.keys(self.keys.base + "*"):
            self.raw.delete(*keys)

    @rule(step=st.deferred(lambda: steps_of(Commands)))
    def step(self, step: tuple[str, dict[str, Any]]) -> None:
        name, arguments = step
        getattr(self, name)(**arguments)

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    def code_of(self, call: Awaitable[object]) -> int:
        """0, or the number of the error that the call raises."""

        async def code() -> int:
            try:
                await call
            except JobError as error:
                return error.code or 0
            return 0

        return self.do(code())

    @property
    def now(self) -> int:
        return self.store.now_ms()

    def known(self, pick: int) -> str | None:
        """One of the ids that were ever given; the jobs that are stored come first."""
        ids = [*self.model.jobs, *(stored_id for stored_id in self.known_ids if stored_id not in self.model.jobs)]
        return ids[pick % len(ids)] if ids else None

    def picked(self, ids: list[str], pick: int) -> str | None:
        """One of `ids`; sometimes, or when there is none, any that is known."""
        return self.known(pick) if pick % 7 == 6 or not ids else ids[pick % len(ids)]

    def claim_of(self, pick: int) -> Claim | None:
        """A claim that holds, or sometimes any one."""
        held = [claim for claim in self.claims if self.holds(claim)]
        among = self.claims[-8:] if pick % 5 == 4 or not held else held
        return among[pick % len(among)] if among else None

    def holds(self, claim: Claim) -> bool:
        job = self.model.jobs.get(claim.stored_id)
        return job is not None and job.lock == claim.token

    def job(self, stored_id: str) -> Job:
        found = self.do(reading._read(self.store, [stored_id]))
        return found[0] if found else Job(self.store, stored_id)

    # Producers -----------------------------------------------------------------------------------------------------------------

    def completed_ask(self, drawn: tuple[Ask, int, int]) -> Ask:
        ask, parent, age = drawn
        # Handlers add children to their jobs; and some caller may name a job that is gone.
        parents = [*self.model.active, *self.model.jobs, *self.known_ids]
        parents = [stored_id for stored_id in parents if not stored_id.startswith("t%")]
        name = parents[parent % len(parents)] if parent and parents else ""
        if self.is_above(ask.stored_id, name):
            name = ""
        return replace(ask, parent=name, policy=ask.policy if name else None, timestamp=self.now - age if age else 0)

    def is_above(self, ancestor: str, stored_id: str) -> bool:
        """True when a job waits for itself if `stored_id` becomes its parent."""
        seen: set[str] = set()
        while stored_id and stored_id not in seen:
            if stored_id == ancestor:
                return True
            seen.add(stored_id)
            stored_id = self.model.jobs[stored_id].parent if stored_id in self.model.jobs else ""
        return False

    def options(self, ask: Ask) -> AddOptions:
        options: dict[str, Any] = {
            "job_id": public_id(ask.stored_id) or None,
            "delay": ask.delay / 1000 if ask.delay else None,
            "priority": ask.priority or None,
            "lifo": ask.lifo or None,
            "attempts": ask.attempts if ask.attempts > 1 else None,
            "backoff": ask.backoff / 1000 if ask.backoff else None,
            "remove_on_complete": ask.keep_completed,
            "remove_on_fail": ask.keep_failed,
            "timestamp": ask.timestamp / 1000 if ask.timestamp else None,
            "deduplication": ask.dedup,
            "parent": Parent(ask.parent, "q") if ask.parent else None,
            "on_child_failure": ask.policy,
            "stacktrace_limit": 0,
        }
        return AddOptions(**{name: value for name, value in options.items() if value is not None})  # pyright: ignore[reportArgumentType]

    @command(weight=9, drawn=asks())
    def add(self, drawn: tuple[Ask, int, int]) -> None:
        ask = self.completed_ask(drawn)
        (wanted,) = self.model.add([ask], self.now)
        call = self.queue.add("n", ask.data, **self.options(ask))
        if isinstance(wanted, int):
            assert self.code_of(call) == wanted
            return
        job = self.do(call)
        assert (job.stored_id, job.duplicate) == wanted
        self.known_ids[job.stored_id] = None

    @command(weight=9, drawn=st.lists(asks(), min_size=1, max_size=6))
    def add_many(self, drawn: list[tuple[Ask, int, int]]) -> None:
        batch = [self.completed_ask(each) for each in drawn]
        wanted = self.model.add(batch, self.now)
        call = self.queue.add_many([("n", ask.data, self.options(ask)) for ask in batch])
        codes = [outcome for outcome in wanted if isinstance(outcome, int)]
        if codes:
            assert self.code_of(call) == codes[0]
            return
        jobs = self.do(call)
        assert [(job.stored_id, job.duplicate) for job in jobs] == wanted
        self.known_ids.update((job.stored_id, None) for job in jobs)

    # Workers -------------------------------------------------------------------------------------------------------------------

    @command(weight=18, settled=st.lists(st.tuples(picks, outcomes), max_size=4), want=st.integers(0, 4))
    def turn(self, settled: list[tuple[int, Outcome]], want: int) -> None:
        attempts = [(claim, outcome) for pick, outcome in settled if (claim := self.claim_of(pick)) is not None]
        self.take_turn([(claim, self.likely(claim, outcome)) for claim, outcome in attempts], want)

    def likely(self, claim: Claim, outcome: Outcome) -> Outcome:
        """A handler whose children are pending waits for them rather than snoozes."""
        job = self.model.jobs.get(claim.stored_id)
        return WaitingForChildren() if job and job.pending and isinstance(outcome, Released | Snoozed) else outcome

    @command(weight=7, want=st.integers(1, 5))
    def claim(self, want: int) -> None:
        self.take_turn([], want)

    def take_turn(self, settled: list[tuple[Claim, Outcome]], want: int) -> TurnReply:
        token, now = f"w:{next(self.numbers)}", self.now
        attempts = [(claim.stored_id, claim.token, outcome) for claim, outcome in settled]
        turn = Turn(now, token, int(LEASE * 1000), want, attempts)
        reply = TurnReply.read(self.do(self.store.run("turn", *turn.arguments())))
        wanted = self.model.turn(attempts, token=token, want=want, now=now)
        claimed = [(raw_id.decode(), started) for raw_id, started, _ in reply.jobs]
        wait = min(reply.wait_ms, 1)
        assert (reply.codes, claimed, wait, reply.due_ms) == (wanted.codes, wanted.claimed, wanted.wait, wanted.due)
        assert not reply.dropped
        for raw_id, started, fields in reply.jobs:
            job = Job.claimed(self.store, raw_id, started, fields, token)
            following = self.do(advance(self.store, job))
            assert following == self.started(job)
        return reply

    def started(self, job: Job) -> str | None:
        """A job was claimed, and its worker has made the run that follows it in its schedule, if any: that one is
        returned.
        """
        assert job.token is not None
        self.claims.append(Claim(job.stored_id, job.token, job.attempts_started, job))
        self.known_ids[job.stored_id] = None
        return self.model.advance(job.scheduler_id, job.stored_id, self.now) if job.scheduler_id else None

    @command(weight=2)
    def fetch(self) -> None:
        job = self.do(self.worker.fetch())
        token = "" if job is None or job.token is None else job.token
        wanted = self.model.turn([], token=token, want=1, now=self.now)
        assert ([] if job is None else [(job.stored_id, job.attempts_started)]) == wanted.claimed
        if job is not None:
            self.started(job)

    @command(weight=5, pick=picks)
    def complete(self, pick: int) -> None:
        claim = self.claim_of(pick)
        if claim is None:
            return
        keep = keep_text(claim.job.options.remove_on_complete)
        self.settle_by_hand(claim, Completed("[1]", keep), self.worker.complete(claim.job, [1]))

    @command(weight=5, pick=picks)
    def fail(self, pick: int) -> None:
        """As the job's options have it: once more now, once more later, or never again."""
        claim = self.claim_of(pick)
        if claim is None:
            return
        options = claim.job.options
        outcome: Outcome = Failed("no", "[]", keep_text(options.remove_on_fail), options.attempts)
        if claim.job.attempts_made + 1 < options.attempts:
            backoff = claim.job.options.backoff
            outcome = RetryNow("no", "[]", options.lifo) if backoff is None else RetryLater("no", "[]", 1000)
        self.settle_by_hand(claim, outcome, self.worker.fail(claim.job, ValueError("no")))

    def settle_by_hand(self, claim: Claim, outcome: Outcome, call: Awaitable[None]) -> None:
        wanted = self.model.turn([(claim.stored_id, claim.token, outcome)], token="", want=0, now=self.now)
        assert self.code_of(call) == wanted.codes[0]

    @command(weight=12, want=st.integers(1, 3))
    def idle_worker(self, want: int) -> None:
        """Pops the marker, or is woken by its timer; nothing else tells it of work."""
        popped: list[tuple[str, float]] = self.raw.zpopmin(self.keys.marker)  # pyright: ignore[reportAssignmentType] - sync client
        if popped and popped[0][1] > self.now:
            self.timer = min(int(popped[0][1]), self.timer or int(popped[0][1]))
            return
        due = 0 < self.timer <= self.now or (self.waits_for_limit and not self.model.limited)
        if not popped and not due:
            return
        reply = self.take_turn([], want)
        self.timer = reply.due_ms
        self.waits_for_limit = reply.wait_ms > 0

    @command(weight=3, pick=picks)
    def renew(self, pick: int) -> None:
        claim = self.claim_of(pick)
        if claim is not None:
            kept = self.do(self.worker.renew(claim.job))
            assert kept == self.model.renew(claim.stored_id, claim.token, claim.started)

    @command(weight=4, pick=picks)
    def lease_ends(self, pick: int) -> None:
        if not self.model.active:
            return
        stored_id = self.model.active[pick % len(self.model.active)]
        self.raw.delete(self.keys.lock(stored_id))
        self.model.lapse(stored_id)

    @command(weight=4, times=st.integers(1, 2), most=st.integers(0, 1))
    def sweep(self, times: int, most: int) -> None:
        for _ in range(times):
            self.raw.delete(self.keys.key("stalled-check"))
            put_back = self.do(self.store.run("sweep", self.now, 60_000, most))
            ids = [raw_id.decode() for raw_id in put_back]
            assert set(ids) == self.model.stalled()
            self.model.sweep(ids, max_stalled=most)
            assert self.do(self.worker.recover_stalled()) == [], "two sweeps in one interval"

    @command(weight=2, pick=picks, value=st.integers(1, 3), what=st.sampled_from(["progress", "log", "data"]))
    def write_about_oneself(self, pick: int, value: int, what: str) -> None:
        claim = self.claim_of(pick)
        if claim is None:
            return
        code = self.model.write_code(claim.stored_id, claim.token, claim.started)
        if what == "progress":
            assert self.code_of(claim.job.update_progress(value)) == code
        elif what == "log":
            assert self.code_of(claim.job.log(str(value))) == code
        else:
            assert self.code_of(claim.job.update_data(value)) == code
        if code:
            return
        job = self.model.jobs[claim.stored_id]
        if what == "progress":
            job.progress = value
        elif what == "log":
            job.logs.append(str(value))
        else:
            job.data = value

    # Operators -----------------------------------------------------------------------------------------------------------------

    @command(weight=2)
    def pause(self) -> None:
        self.do(self.queue.pause())
        self.model.paused = True

    @command(weight=4)
    def resume(self) -> None:
        self.do(self.queue.resume())
        self.model.paused = False

    @command(weight=4, most=st.sampled_from([None, None, 1, 2, 3]))
    def set_concurrency(self, most: int | None) -> None:
        self.do(self.queue.set_concurrency(most))
        self.model.concurrency = most

    @command(weight=1, most=st.sampled_from([None, None, 1, 3]))
    def set_rate_limit(self, most: int | None) -> None:
        self.do(self.queue.set_rate_limit(None if most is None else RateLimit(most, LEASE)))
        self.model.rate = most
        self.waits_for_limit &= self.model.limited

    @command(weight=1)
    def limit_for(self) -> None:
        self.do(self.queue.limit_for(LEASE))
        self.model.starts = 2**53 - 1

    @command(weight=2)
    def lift_limit(self) -> None:
        assert self.do(self.queue.lift_limit()) == (self.model.starts is not None)
        self.model.starts = None
        self.waits_for_limit = False

    @command(weight=2)
    def window_ends(self) -> None:
        self.raw.delete(self.keys.limiter)
        self.model.starts = None

    @command(weight=3, pick=picks)
    def promote(self, pick: int) -> None:
        stored_id = self.picked(self.model.line("delayed"), pick)
        if stored_id is not None:
            code = self.code_of(Job(self.store, stored_id).promote())
            assert code == self.model.promote(stored_id)

    @command(weight=2, pick=picks, delay=pauses)
    def change_delay(self, pick: int, delay: int) -> None:
        stored_id = self.picked(self.model.line("delayed"), pick)
        if stored_id is not None:
            code = self.code_of(Job(self.store, stored_id).change_delay(delay / 1000))
            assert code == self.model.change_delay(stored_id, delay, self.now)

    @command(weight=2, pick=picks, priority=st.sampled_from([0, 1, 2]), first=st.booleans())
    def change_priority(self, pick: int, priority: int, first: bool) -> None:
        stored_id = self.known(pick)
        if stored_id is not None:
            code = self.code_of(Job(self.store, stored_id).change_priority(priority, lifo=first))
            assert code == self.model.change_priority(stored_id, priority, first=first)

    @command(
        weight=4, pick=picks, ended=st.sampled_from(["completed", "failed"]), made=st.booleans(), started=st.booleans()
    )
    def retry(self, pick: int, ended: FinishedSet, made: bool, started: bool) -> None:
        stored_id = self.picked(self.model.line(ended), pick)
        if stored_id is not None:
            retried = self.job(stored_id).retry(ended, reset_attempts_made=made, reset_attempts_started=started)
            code = self.code_of(retried)
            assert code == self.model.retry(stored_id, ended, reset_made=made, reset_started=started)

    @command(weight=1, ended=st.sampled_from(["completed", "failed"]), age=st.sampled_from([0, 1000]))
    def retry_jobs(self, ended: FinishedSet, age: int) -> None:
        before = self.now - age
        retried = self.do(self.queue.retry_jobs(state=ended, before=before / 1000))
        assert retried == self.model.retry_all(ended, before)

    @command(weight=1)
    def promote_jobs(self) -> None:
        assert self.do(self.queue.promote_jobs()) == self.model.promote_all()

    @command(weight=2, pick=picks, children=st.booleans())
    def remove(self, pick: int, children: bool) -> None:
        stored_id = self.known(pick)
        if stored_id is None:
            return

        async def code() -> int:
            try:
                return 1 if await Job(self.store, stored_id).remove(children=children) else -1
            except JobLocked:
                return 0
            except JobError as error:
                return error.code or 0

        assert self.do(code()) == self.model.remove(stored_id, children=children, now=self.now)

    @command(weight=1, delayed=st.booleans())
    def drain(self, delayed: bool) -> None:
        assert self.do(self.queue.drain(delayed=delayed)) == self.model.drain(delayed=delayed, now=self.now)

    @command(
        weight=2,
        state=st.sampled_from(["completed", "failed", "waiting", "prioritized", "delayed", "active"]),
        grace=st.sampled_from([0, 1000]),
        limit=st.sampled_from([None, 1, 3]),
    )
    def clean(self, state: JobState, grace: int, limit: int | None) -> None:
        cleaned = self.do(self.queue.clean(grace / 1000, limit, state))
        wanted = self.model.clean(COLLECTIONS[state], grace, limit, self.now)
        assert cleaned == [public_id(stored_id) for stored_id in wanted]

    @command(weight=1, force=st.booleans())
    def obliterate(self, force: bool) -> None:
        if len(self.model.jobs) < 6:
            return
        if self.model.active and not force:
            with pytest.raises(QueueBusy):
                self.do(self.queue.obliterate())
            return
        assert self.do(self.queue.obliterate(force=force)) == self.model.obliterate()
        assert set(self.keyspace()[0]) <= {f"de:{name}" for name in self.model.owners}

    # Schedules, deduplication, time ----------------------------------------------------------------------------------------------

    @command(weight=2, name=st.sampled_from(["s", "s:1"]), every=st.sampled_from([1000, 3000]), data=st.integers(1, 9))
    def upsert_scheduler(self, name: str, every: int, data: int) -> None:
        job = self.do(self.queue.upsert_scheduler(name, every=every / 1000, data=data, stacktrace_limit=0))
        stored_id, delay = self.model.upsert_scheduler(name, every, data, self.now)
        assert (job.stored_id, job.delay_seconds) == (stored_id, delay / 1000)

    @command(weight=1, name=st.sampled_from(["s", "s:1"]))
    def remove_scheduler(self, name: str) -> None:
        assert self.do(self.queue.remove_scheduler(name)) == self.model.remove_scheduler(name)

    @command(weight=1, dedup_id=dedup_ids)
    def remove_deduplication(self, dedup_id: str) -> None:
        removed = self.do(self.queue.remove_deduplication(dedup_id))
        assert removed == self.model.remove_deduplication(dedup_id)

    @command(weight=1, pick=picks)
    def release_deduplication(self, pick: int) -> None:
        held = [owner.id for owner in self.model.owners.values() if owner.id in self.model.jobs]
        if held:
            stored_id = held[pick % len(held)]
            released = self.do(self.job(stored_id).remove_deduplication_key())
            assert released == self.model.release_deduplication(stored_id)

    @command(weight=1, dedup_id=dedup_ids)
    def throttle_ends(self, dedup_id: str) -> None:
        owner = self.model.owners.get(dedup_id)
        if owner is not None and owner.expires:
            self.raw.delete(self.keys.deduplication(dedup_id))
            del self.model.owners[dedup_id]

    @command(weight=6, seconds=st.sampled_from([0.25, 1.0, 1.25, 30.0, 3600.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # What holds after each ---------------------------------------------------------------------------------------------------------

    def keyspace(self) -> tuple[keyspace.Keyspace, dict[str, bool]]:
        return keyspace.stored(self.raw, self.keys.base)

    @invariant()
    def keys_are_the_model(self) -> None:
        keys, expires = self.keyspace()
        wanted = keyspace.expected(self.model, self.keys.base)
        assert keyspace.without_freedom(keys) == wanted
        assert list(keys.get("prioritized", ())) == self.model.line("prioritized")
        expires.pop("stalled-check", None)
        assert {suffix for suffix, does in expires.items() if does} == keyspace.expiring(self.model)
        self.markers_wake(keys.get("marker", {}))
        self.invariants_hold()

    def markers_wake(self, marker: dict[str, float]) -> None:
        """Whoever sleeps hears of what may start now, and of what is due when it is."""
        model = self.model
        assert marker.keys() <= {"0", "1"}
        if model.paused:
            assert "0" not in marker
            return
        if model.claimable and not model.blocked and not self.waits_for_limit:
            assert "0" in marker, f"nobody hears of {model.line('wait') + model.line('prioritized')}"
        if model.delayed:
            told = [self.timer or float("inf"), marker.get("1", float("inf"))]
            assert "0" in marker or min(map(int_or_inf, told)) <= model.next_due, (
                "nobody hears of a delayed job in time"
            )

    def invariants_hold(self) -> None:
        """What every client of the queue may rely on, said once more without the model's help: bullmq-wire 11.1."""
        model = self.model
        for stored_id, job in model.jobs.items():
            place = model.place_of(stored_id)
            assert place is not None, f"{stored_id} stands nowhere"
            assert job.lock is None or place == "active"
            assert place != "waiting-children" or job.pending, f"{stored_id} waits for nothing"
        for dedup_id, owner in model.owners.items():
            place = model.place_of(owner.id)
            assert owner.expires or place not in ("completed", "failed"), f"{dedup_id} is held by an ended job"
        for name, scheduler in model.schedulers.items():
            assert f"repeat:{name}:{scheduler.due}" in model.jobs

    @invariant()
    def reading_tells_the_same(self) -> None:
        model, queue = self.model, self.queue
        lines: dict[JobState, list[str]] = {state: model.line(COLLECTIONS[state]) for state in STATES}

        async def read() -> None:
            assert await queue.counts() == {state: len(line) for state, line in lines.items()}
            jobs = await queue.get_jobs(ascending=True)
            assert [job.stored_id for job in jobs] == list(itertools.chain.from_iterable(lines.values()))
            for job in jobs:
                self.reads_alike(job)
            assert await queue.is_paused() == model.paused
            assert await queue.is_maxed() == (model.concurrency is not None and len(model.active) >= model.concurrency)
            state = STATES[next(self.numbers) % len(STATES)]  # one is enough: the next command looks at another
            newest = [job.stored_id for job in await queue.get_jobs(state, start=0, end=1)]
            assert newest == lines[state][::-1][:2]
            if lines[state]:
                assert await Job(self.store, lines[state][0]).state() == state
            gone = [stored_id for stored_id in self.known_ids if stored_id not in model.jobs]
            if gone:
                assert await Job(self.store, gone[-1]).state() == "unknown"
            assert await queue.count_schedulers() == len(model.schedulers)

        self.do(read())

    def reads_alike(self, job: Job) -> None:
        stored = self.model.jobs[job.stored_id]
        assert job.corrupt is None
        assert (job.attempts_made, job.attempts_started, job.stalled_count) == (
            stored.made,
            stored.started,
            stored.stalls,
        )
        assert (job.failed_reason, job.priority, job.delay_seconds) == (
            stored.reason,
            stored.priority,
            stored.delay / 1000,
        )
        assert job.finished_at == (None if stored.finished_at is None else stored.finished_at / 1000)


def int_or_inf(value: float) -> float:
    # A worker reads a score of the marker as whole milliseconds.
    return value if value == float("inf") else int(value)


# The tests --------------------------------------------------------------------------------------------------------------------

SETTINGS = settings(
    max_examples=100,
    stateful_step_count=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
PLAIN = Ask(data=1)
FAILED = Failed("why", '["at"]', "::", 1)
Steps: TypeAlias = list[tuple[str, dict[str, Any]]]

SETTLED_TWICE: Steps = [
    ("add", {"drawn": (PLAIN, 0, 0)}),
    ("claim", {"want": 1}),
    ("turn", {"settled": [(0, RetryNow("why", "[]", False)), (0, Completed("1", "::"))], "want": 0}),
]
STRANGER_UNDER_A_THROTTLED_NAME: Steps = [
    ("add", {"drawn": (Ask(data=1, stored_id="a", dedup=Dedup("x", ttl=LEASE)), 0, 0)}),
    ("claim", {"want": 1}),
    ("turn", {"settled": [(0, Completed("1", "0::"))], "want": 0}),
    ("add", {"drawn": (Ask(data=2, stored_id="a", delay=60_000), 0, 0)}),
    ("add", {"drawn": (Ask(data=3, dedup=Dedup("x", replace=True)), 0, 0)}),
    ("add", {"drawn": (Ask(data=4, dedup=Dedup("x", reschedule=True)), 0, 0)}),
]

_SIMPLE, _LAST = Dedup("x"), Dedup("x", keep_last_if_active=True)
FOLLOWER_WHOSE_NAME_IS_TAKEN: Steps = [
    ("add", {"drawn": (Ask(data=1, dedup=_SIMPLE), 0, 0)}),
    ("claim", {"want": 1}),
    ("add", {"drawn": (Ask(data=2, stored_id="a", dedup=_LAST), 0, 0)}),
    ("add", {"drawn": (Ask(data=3, stored_id="a"), 0, 0)}),
    ("turn", {"settled": [(0, Completed("1", "::"))], "want": 0}),
]
FORMER_OWNER_RUNS_AGAIN: Steps = [
    ("add", {"drawn": (Ask(data=1, dedup=_SIMPLE), 0, 0)}),
    ("claim", {"want": 1}),
    ("turn", {"settled": [(0, Completed("1", "::"))], "want": 0}),
    ("add", {"drawn": (Ask(data=2, dedup=_SIMPLE), 0, 0)}),
    ("claim", {"want": 1}),
    ("add", {"drawn": (Ask(data=3, dedup=_LAST), 0, 0)}),
    ("retry", {"pick": 0, "ended": "completed", "made": False, "started": False}),
    ("claim", {"want": 1}),
    ("turn", {"settled": [(1, Completed("1", "::"))], "want": 0}),
]
AWAITED_CHILD_IS_EVICTED: Steps = [
    ("add", {"drawn": (PLAIN, 0, 0)}),
    ("claim", {"want": 1}),
    ("add", {"drawn": (PLAIN, 1, 0)}),
    ("turn", {"settled": [(0, WaitingForChildren())], "want": 1}),
    ("turn", {"settled": [(0, FAILED)], "want": 0}),
    ("time_passes", {"seconds": 1.0}),
    ("add", {"drawn": (PLAIN, 0, 0)}),
    ("claim", {"want": 1}),
    ("turn", {"settled": [(0, replace(FAILED, keep="1::"))], "want": 0}),
]

RESUMED_WITH_EVERY_SLOT_TAKEN: Steps = [
    ("set_concurrency", {"most": 1}),
    ("add_many", {"drawn": [(PLAIN, 0, 0), (PLAIN, 0, 0), (replace(PLAIN, delay=1000), 0, 0)]}),
    ("turn", {"settled": [], "want": 1}),
    ("pause", {}),
    ("resume", {}),
    ("idle_worker", {"want": 1}),
    ("turn", {"settled": [(0, Completed("1", "::"))], "want": 1}),
]


def parent_waits_in_the_batch_of_its_child(policy: ChildFailurePolicy | None, outcome: Outcome) -> Steps:
    return [
        ("add", {"drawn": (PLAIN, 0, 0)}),
        ("claim", {"want": 1}),
        ("add", {"drawn": (replace(PLAIN, policy=policy), 1, 0)}),
        ("claim", {"want": 1}),
        ("turn", {"settled": [(1, outcome), (0, WaitingForChildren())], "want": 0}),
    ]


@pytest.mark.parametrize(
    "steps",
    [
        SETTLED_TWICE,
        STRANGER_UNDER_A_THROTTLED_NAME,
        FOLLOWER_WHOSE_NAME_IS_TAKEN,
        FORMER_OWNER_RUNS_AGAIN,
        AWAITED_CHILD_IS_EVICTED,
        RESUMED_WITH_EVERY_SLOT_TAKEN,
        parent_waits_in_the_batch_of_its_child(None, Completed("1", "::")),
        parent_waits_in_the_batch_of_its_child(None, replace(FAILED, keep="0::")),
        parent_waits_in_the_batch_of_its_child("fail", FAILED),
        parent_waits_in_the_batch_of_its_child("continue", FAILED),
        parent_waits_in_the_batch_of_its_child("ignore", FAILED),
        parent_waits_in_the_batch_of_its_child("remove", FAILED),
    ],
)
def test_sequences_that_random_ones_seldom_meet(steps: Steps, redis_socket_url: str, prefix: str) -> None:
    with Redis.from_url(redis_socket_url, decode_responses=True) as raw:
        machine = Commands(redis_socket_url, prefix, raw)
        try:
            for step in steps:
                machine.step(step)
                machine.keys_are_the_model()
                machine.reading_tells_the_same()
        finally:
            machine.teardown()


@pytest.mark.timeout(0 if "PROPERTY_MINUTES" in os.environ else 900)
def test_the_queue_does_what_the_model_does(redis_socket_url: str, prefix: str, seed: int) -> None:
    minutes = float(os.environ.get("PROPERTY_MINUTES", "0"))
    until = time.monotonic() + 60 * minutes
    first = int(os.environ.get("PROPERTY_SEED", seed))
    with Redis.from_url(redis_socket_url, decode_responses=True) as raw:
        for round_seed in itertools.count(first):
            print(f"a round with PROPERTY_SEED={round_seed}")

            @hypothesis.seed(round_seed)
            def machine() -> Commands:
                return Commands(redis_socket_url, prefix, raw)

            run_state_machine_as_test(machine, settings=SETTINGS)  # pyright: ignore[reportArgumentType]
            if time.monotonic() >= until:
                return
