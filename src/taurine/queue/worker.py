"""The worker: claims jobs of one queue, runs them, and settles what became of them.

The loop is made of turns (`lua/turn.lua`). A turn settles the attempts that ended and claims jobs for the slots that
are free, in one script call. The next turn is sent as soon as a reply is in and before its jobs are started, so that
the server works while this process does. Nothing waits for company: whatever ended while a turn was under way goes with
the next. A worker never holds more jobs than it has slots, but for those that ran and are being written down
(`later.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random, SystemRandom
from typing import Any, Self, TypeAlias

from taurine.clock import Clock, SystemClock
from taurine.errors import (
    FailedChildren,
    InvalidOption,
    PendingChildren,
    RateLimited,
    StoreError,
    StoreUnavailable,
    WaitForChildren,
)
from taurine.heartbeat import Heartbeat
from taurine.ids import public_id, unique_id
from taurine.options import Keep, RateLimit, Seconds, require_count, to_seconds
from taurine.pauses import Pauses, waited_out
from taurine.queue.administration import lengthen_limit
from taurine.queue.attempt import AttemptPolicy, BackoffStrategies, Decided, bounded_delay
from taurine.queue.by_hand import ByHand
from taurine.queue.connection import Connection, Target
from taurine.queue.doorbell import Doorbell, put_marker, shared_doorbell
from taurine.queue.job import Job
from taurine.queue.keys import QueueKeys
from taurine.queue.later import Later
from taurine.queue.leases import Lease, LeaseKeeper, Renewal
from taurine.queue.prospect import Prospect
from taurine.queue.scheduler import ScheduleStrategy, advance
from taurine.queue.server_check import server_warnings
from taurine.queue.signals import stopped_by_signals
from taurine.queue.stalled import StalledSweep
from taurine.queue.store import QueueStore
from taurine.queue.tracing import WorkerTracing
from taurine.queue.turn import Completed, Failed, Outcome, Released, RetryLater, RetryNow, Turn, TurnReply
from taurine.queue.turn_link import TurnLink
from taurine.queue.worker_events import Callback, WorkerEvent, WorkerEvents
from taurine.telemetry import Telemetry

__all__ = ["Handler", "RefusalHandler", "Worker"]

log = logging.getLogger("taurine.queue")

Handler: TypeAlias = Callable[[Job], Awaitable[Any]]
"""An async function of a job. What it returns is the job's result; what it raises fails the attempt."""

RefusalHandler: TypeAlias = Callable[[Job, BaseException], Awaitable[Any]]
"""An async function of a job that must not run and of the reason. What it returns completes the job; what it raises
fails the attempt.
"""

_BROKEN = -12
"""The turn script's code for a job that it could not settle for broken data."""

_TURNS_IN_FLIGHT = 2
"""Turns under way at once, so that the server has the next when it has answered one."""

_CANCEL_TIME = 1.0
"""Seconds that a cancelled handler has to end before its job is handed back without waiting for it."""

_SETTLE_TIME = 5.0
"""Seconds that a stopping worker gives the server to take its last outcomes."""


class _Attempt:
    """One job that runs now, or has run and is being written down."""

    __slots__ = ("handed_back", "job", "later", "lease", "lost", "task")

    def __init__(self, job: Job, lease: Lease) -> None:
        self.job = job
        self.lease = lease
        self.lost = False
        self.handed_back = False
        self.task: asyncio.Task[Any] | None = None
        self.later: Later | None = None


class _Ended:
    """An attempt that ended and is not settled yet."""

    __slots__ = ("job", "lease", "outcome", "value")

    def __init__(self, lease: Lease, outcome: Outcome, job: Job | None = None, value: Any = None) -> None:
        self.lease = lease
        self.outcome = outcome
        self.job = job
        self.value = value
        """The handler's result or error, for the worker's own events."""


class _Flight:
    """A turn under way: how many jobs it asks for, and what it settles."""

    __slots__ = ("ended", "want")

    def __init__(self, want: int, ended: list[_Ended]) -> None:
        self.want = want
        self.ended = ended


class Worker:
    """Runs the jobs of one queue.

    queue: the queue's name. handler: an async function of a job. target: a URL, a ready `redis.asyncio.Redis`, or a
    Connection.
    prefix: what the queue's keys start with. Default: "bull".
    concurrency: jobs that run at once; may be changed while it runs. Default: 5.
    name: shown on jobs that it ran and in lists of workers. Default: none.
    lease: seconds that a claimed job stays this worker's without renewal. Default: 30.
    renew_leases: False leaves leases to run out; for tests and very short jobs. Default: True.
    stalled_interval: seconds between looks for jobs whose worker is gone; 0 never looks. Default: 30.
    max_stalled: times that a job may be put back before it is failed. Default: 1.
    max_started_attempts: fail a job that was started more often than this, for whatever reason. Default: no limit.
    rate_limit: job starts per window over all workers of the queue; a limit set on the queue comes first. Default:
    none.
    remove_on_complete, remove_on_fail: for jobs that do not say. True removes at once, False keeps all. Default: keep
    all.
    backoff_strategy: pauses of jobs with a custom back-off: a function of the attempts made, the back-off's type, the
    error and the job, or one for each type. It returns seconds, 0 for at once, or a negative number to fail the job for
    good. Default: such jobs pause for a second.
    drain_delay: seconds that an idle worker waits before it looks for jobs that nobody announced. Default: 5.
    metrics_points: minutes of finished-job counts to keep in the queue. Default: 0, none.
    schedule_strategy: next times of schedulers that have neither a cron pattern nor an interval; the one that the queue
    has. Default: none.
    on_refusal: called in place of the handler for a job that must not run (it stalled too often, its data is broken),
    with the reason; what it returns or raises ends the attempt. Default: the job fails for that reason.
    telemetry: told of attempts as spans, children of those that added the jobs, and of what becomes of them as
    measures. Default: nobody.
    clock, random: time and randomness. Default: the machine's.

    Raises InvalidOption or InvalidName. As an async context manager it runs in the background and stops at the end of
    the block.
    """

    def __init__(
        self,
        queue: str,
        handler: Handler | None,
        target: Target,
        *,
        prefix: str = "bull",
        concurrency: int = 5,
        name: str = "",
        lease: Seconds = 30.0,
        renew_leases: bool = True,
        stalled_interval: Seconds = 30.0,
        max_stalled: int = 1,
        max_started_attempts: int | None = None,
        rate_limit: RateLimit | None = None,
        remove_on_complete: bool | int | Keep | None = None,
        remove_on_fail: bool | int | Keep | None = None,
        backoff_strategy: BackoffStrategies | None = None,
        drain_delay: Seconds = 5.0,
        metrics_points: int = 0,
        schedule_strategy: ScheduleStrategy | None = None,
        on_refusal: RefusalHandler | None = None,
        telemetry: Telemetry | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        random = random or SystemRandom()
        self._handler = _checked_handler(handler)
        self._on_refusal = on_refusal
        self._name = _checked_name(name)
        self._concurrency = _checked_concurrency(concurrency)
        self._rate_limit = _checked_limit(rate_limit)
        self._drain_delay = to_seconds(drain_delay, "drain_delay", minimum=0.01)
        self._metrics_points = require_count(metrics_points, "metrics_points", minimum=0)
        self._schedule_strategy = schedule_strategy
        self._policy = AttemptPolicy(
            remove_on_complete=remove_on_complete,
            remove_on_fail=remove_on_fail,
            max_started_attempts=max_started_attempts,
            backoff_strategy=backoff_strategy,
            random=random,
        )

        self._store = QueueStore(QueueKeys(queue, prefix), Connection.to(target), clock or SystemClock())
        self._owns_connection = not isinstance(target, Connection)
        self._clock = self._store.clock
        self._events = WorkerEvents()
        self._turns = TurnLink(self._store.connection, self._store.keys, name)

        lease_seconds = to_seconds(lease, "lease", minimum=0.1)
        self._lease_ms = round(lease_seconds * 1000)
        self._renew_leases = renew_leases
        self._leases = LeaseKeeper(
            self._store,
            duration=lease_seconds,
            held=self._held_leases,
            on_renewal=self._on_renewal,
            on_failure=lambda error: self._events.emit("renewal_failed", error),
            random=random,
        )
        self._stalled_interval = to_seconds(stalled_interval, "stalled_interval")
        self._sweep = StalledSweep(
            self._store,
            interval=self._stalled_interval or 30.0,
            max_stalled=require_count(max_stalled, "max_stalled", minimum=0),
            on_stalled=lambda job_id: self._events.emit("stalled", job_id),
            known_empty=self._known_empty,
            random=random,
        )

        # The attempts, from their start to the turn that settles them; the turns under way by their tokens.
        self._id = unique_id()
        self._tracing = (
            None
            if telemetry is None
            else WorkerTracing(telemetry, queue=queue, worker=name, worker_id=self._id, now=self._clock.now)
        )
        self._turn_count = 0
        self._running: dict[Lease, _Attempt] = {}
        """By lease, not by job: one that was lost unnoticed may come here anew."""
        self._writing: dict[Lease, _Attempt] = {}
        self._ended: list[_Ended] = []
        self._flying: dict[str, _Flight] = {}

        self._prospect = Prospect(self._clock)
        self._reachable: bool | None = None
        """Whether the last turn was answered; None before the first."""

        self._by_hand = ByHand(
            self._store,
            self._policy,
            self._leases,
            self._tracing,
            make_turn=self._turn,
            advance=self._advance_schedule,
            look_every=self._drain_delay,
        )

        # The loop, and what it was told to do.
        self._heartbeat = Heartbeat(f"turns of {self._store.keys.name}", self._clock)
        self._patience = 2 * self._drain_delay
        self._wake = asyncio.Event()
        self._idle: asyncio.Event | None = None
        self._paused = self._stopping = self._abandoned = False
        self._doorbell: Doorbell | None = None
        self._server_check: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None

    # What callers see -----------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._name

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """Of its loops, that of the process's doorbell included. Safe to read from another thread."""
        doorbell = self._doorbell
        own = [self._heartbeat, self._leases.heartbeat, self._sweep.heartbeat]
        return own if doorbell is None else [*own, doorbell.heartbeat]

    @property
    def concurrency(self) -> int:
        """Jobs that run at once. Setting it takes effect at once; running jobs above a lower value run on."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, value: int) -> None:
        self._concurrency = _checked_concurrency(value)
        self._look_again()

    @property
    def running(self) -> list[Job]:
        """The jobs that run in this worker now."""
        return [attempt.job for attempt in self._running.values()]

    def on(self, event: WorkerEvent, callback: Callback) -> None:
        """Call `callback` at each `event` of this worker; WorkerEvent lists them with their arguments.

        Raises InvalidOption for another.
        """
        self._events.on(event, callback)

    async def run(self, *, handle_signals: bool = False) -> None:
        """Work until `stop` is called. An outage is waited out, however long; cancelling hands the running jobs back.

        handle_signals: SIGINT and SIGTERM call `stop` with its usual grace, and a second one ends the grace at once;
        this returns as after any stop.
        What handled the signals before does so again afterwards. All workers of the process that ask for it are stopped
        together. Default: False.

        Raises InvalidOption when the worker has no handler or runs already, and for `handle_signals` outside the main
        thread; StoreRefused when the server turns the worker away.
        """
        if self._handler is None:
            raise InvalidOption("this worker has no handler; give it one, or fetch jobs by hand")
        if self._loop is not None:
            raise InvalidOption(f"the worker of queue {self._store.keys.name!r} runs already")
        self._loop = asyncio.current_task()
        try:
            async with (
                stopped_by_signals(self, self._store.keys.name) if handle_signals else contextlib.nullcontext(),
                shared_doorbell(
                    self._store.connection, prefix=self._store.keys.prefix, block=self._drain_delay
                ) as self._doorbell,
            ):
                await self._work(self._doorbell)
        finally:
            self._loop = self._doorbell = None
            if self._owns_connection:
                await self._store.connection.close()

    async def stop(self, *, grace: Seconds | None = 30.0) -> None:
        """Claim nothing more, let running jobs end, and return when the worker has ended.

        grace: seconds that running jobs may take; then their handlers are cancelled and the jobs go back to the front
        of the line at once, no attempt charged. 0: at once. None: as long as they take. Default: 30. Safe to call
        twice, and before `run`.
        """
        if not self._stopping:
            self._stopping = True
            self._events.emit("closing")
        self._look_again()
        if asyncio.current_task() in self._tasks():
            return  # called by one of its own handlers, which cannot wait for itself
        if self._running or self._writing:
            await self._until_idle(None if grace is None else to_seconds(grace, "grace"))
            await self._hand_back()
        if self._loop is not None:
            await asyncio.wait({self._loop}, timeout=_SETTLE_TIME)
            self._abandoned = True  # a server that is down would keep it trying
            self._wake.set()
        background, self._background = self._background, None
        if background is not None:
            await asyncio.wait({background})
        if self._owns_connection:
            await self._store.connection.close()

    async def pause(self, *, wait: bool = True) -> None:
        """Claim nothing more until `resume`; only this worker.

        wait: return when its running jobs have ended. Default: True.
        """
        if not self._paused:
            self._paused = True
            self._events.emit("paused")
            self._wake.set()
        if wait:
            await self._until_idle(None)

    def resume(self) -> None:
        """Claim again after `pause`."""
        if self._paused:
            self._paused = False
            self._events.emit("resumed")
            self._look_again()

    @property
    def is_paused(self) -> bool:
        return self._paused

    def cancel(self, job_id: str, reason: str = "cancelled") -> bool:
        """Cancel a job that runs in this worker; False when it does not.

        The handler gets CancelledError at its next await, and `job.cancel_reason`. Left to itself the attempt fails and
        is retried as any other; a handler that raises Permanent or Cancel instead ends the job.
        """
        attempts = [held for held in self._running.values() if job_id in (held.job.id, held.job.stored_id)]
        for attempt in attempts:
            self._cancel(attempt, reason)
        return bool(attempts)

    def cancel_all(self, reason: str = "cancelled") -> int:
        """Cancel every job that runs in this worker; returns how many."""
        attempts = list(self._running.values())
        for attempt in attempts:
            self._cancel(attempt, reason)
        return len(attempts)

    async def __aenter__(self) -> Self:
        self._background = asyncio.create_task(self.run(), name=f"taurine worker of {self._store.keys.name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        background = self._background
        await self.stop()
        if background is not None and background.done() and not background.cancelled():
            background.result()

    # By hand --------------------------------------------------------------------------------------------------------------------

    async def fetch(self, *, timeout: Seconds = 0.0) -> Job | None:
        """Claim one job without running it; None when there is none within `timeout` seconds. Default: do not wait.

        The caller renews (`renew`) and settles it (`complete`, `fail`). Raises CorruptJob for a job that cannot be
        decoded; it has been failed then.
        """
        return await self._by_hand.fetch(to_seconds(timeout, "timeout"))

    async def complete(self, job: Job, result: Any = None) -> None:
        """Settle a fetched job as completed.

        Raises JobNotFound, LeaseMissing, LeaseLost, NotInState, PendingChildren, FailedChildren.
        """
        await self._by_hand.complete(job, result)

    async def fail(self, job: Job, error: BaseException) -> None:
        """Settle a fetched job as a failed attempt: retried or failed for good, by its options.

        Raises as `complete` does.
        """
        await self._by_hand.fail(job, error)

    async def renew(self, job: Job) -> bool:
        """Prolong a fetched job's lease; False when it is lost."""
        return await self._by_hand.renew(job)

    async def recover_stalled(self) -> list[str]:
        """Look once for jobs whose worker is gone, and put them back; returns their ids.

        At most once per `stalled_interval` over all workers.
        """
        return await self._sweep.run_once()

    # The loop -------------------------------------------------------------------------------------------------------------------

    async def _work(self, doorbell: Doorbell) -> None:
        pauses = Pauses()
        if self._renew_leases:
            self._leases.start()
        if self._stalled_interval:
            self._sweep.start()
        try:
            while not self._finished():
                self._heartbeat.turn(self._patience)
                try:
                    if self._reachable is False:
                        # Leases may have run out meanwhile; what nobody took is taken back before it is settled.
                        await self._leases.renew(self._held_leases())
                        self._heartbeat.turn(self._patience)
                    if not self._has_turn(self._wanted(0)):
                        await self._rest(doorbell)
                        continue
                    await self._take_turns()
                    pauses.succeeded()
                except StoreUnavailable as error:
                    self._lose_turn()
                    if self._reachable is not False:
                        log.warning("worker of %s: %s; the worker goes on trying", self._store.keys.name, error)
                        self._events.emit("error", error)
                    self._reachable = False
                    await self._clock.sleep(pauses.failed())
        finally:
            await self._close(doorbell)

    def _finished(self) -> bool:
        return self._stopping and not self._busy and (self._abandoned or not self._ended)

    async def _take_turns(self) -> None:
        """Turns without a pause, as long as each leaves something for the next. This is the hot path.

        Two are under way at a time while there is a backlog: the server works on one while this process makes the next
        of what ended.
        """
        await self._send_turns()
        while self._flying:
            self._heartbeat.turn(self._patience)
            turn, reply = await self._turns.receive()
            if self._reachable is not True:
                self._greet()
            settled = self._flying.pop(turn.token).ended
            drained = self._prospect.heed(reply, turn)
            try:
                await self._send_turns(arriving=len(reply.jobs))
            finally:
                # The reply counts whatever became of the next turn: its jobs are leased to this worker.
                if settled:
                    self._report(settled, reply.codes, again=bool(turn.lost_tokens))
                if reply.dropped:
                    self._log_dropped(reply.dropped)
                if drained:
                    self._events.emit("drained")
                self._start(reply, turn)

    async def _send_turns(self, arriving: int = 0) -> None:
        while len(self._flying) < _TURNS_IN_FLIGHT and (turn := self._next_turn(arriving)) is not None:
            await self._turns.send(turn)

    def _next_turn(self, arriving: int) -> Turn | None:
        """The turn to take now, or None when there is nothing to settle and nothing to claim.

        arriving: jobs of a reply that are not started yet.
        """
        want = self._wanted(arriving)
        if not self._has_turn(want):
            return None
        if want:
            self._prospect.asks()
        ended, self._ended = self._ended, []
        turn = self._turn(want, [(entry.lease.stored_id, entry.lease.token, entry.outcome) for entry in ended])
        self._flying[turn.token] = _Flight(want, ended)
        return turn

    def _has_turn(self, want: int) -> bool:
        if self._ended or (want and self._prospect.claimable):
            return True
        # At the end, jobs that a lost turn claimed are asked for once more, to be handed back.
        return self._stopping and self._turns.has_lost and not self._flying

    def _turn(self, want: int, attempts: Sequence[tuple[str, str, Outcome]]) -> Turn:
        self._turn_count += 1
        return Turn(
            now_ms=self._store.now_ms(),
            token=f"{self._id}:{self._turn_count}",
            lease_ms=self._lease_ms,
            want=want,
            attempts=attempts,
            worker_name=self._name,
            limit=self._rate_limit,
            metrics_points=self._metrics_points,
        )

    def _free(self, arriving: int = 0) -> int:
        if self._stopping or self._paused:
            return 0
        running = len(self._running) + arriving + sum(flight.want for flight in self._flying.values())
        # As many again, but one, may be on their way into a record: a worker of one slot does one thing at a time.
        return max(0, min(self._concurrency - running, 2 * self._concurrency - 1 - running - len(self._writing)))

    def _wanted(self, arriving: int) -> int:
        """Jobs to ask for: a third of the slots at a time, so that one third runs here while the others are fetched
        there.
        """
        if self._prospect.limited:
            return 0
        return min(self._free(arriving), -(-self._concurrency // (_TURNS_IN_FLIGHT + 1)))

    def _log_dropped(self, raw_ids: list[bytes]) -> None:
        name = self._store.keys.name
        for raw_id in raw_ids:
            log.warning("queue %s: dropped the id %r, no job is stored under it", name, public_id(_text(raw_id)))

    def _start(self, reply: TurnReply, turn: Turn) -> None:
        now = self._clock.monotonic()
        active_heard, progress_heard = self._events.heard("active"), self._events.heard("progress")
        run = self._attempt if self._tracing is None else partial(self._traced_attempt, self._tracing)
        for raw_id, started, fields in reply.jobs:
            job = Job.claimed(self._store, raw_id, started, fields, turn.token)
            attempt = _Attempt(job, Lease(job.stored_id, turn.token, job.attempts_started, now))
            if self._stopping or self._paused:
                self._ended.append(_Ended(attempt.lease, Released(), job))
                self._wake.set()
                continue
            self._running[attempt.lease] = attempt
            attempt.task = asyncio.create_task(run(attempt))
            if progress_heard:
                job.on_progress = self._tell_progress
            if active_heard:
                self._events.emit("active", job)

    async def _traced_attempt(self, tracing: WorkerTracing, attempt: _Attempt) -> None:
        with tracing.attempt(attempt.job) as told:
            ended = await self._attempt(attempt)
            if ended is not None:
                # The loop has not come to it yet: nothing was awaited since it ended.
                ended.outcome = told.came_to(ended.outcome, ended.value)

    async def _attempt(self, attempt: _Attempt) -> _Ended | None:
        job = attempt.job
        value: Any = None
        outcome: Outcome | None = Released()  # stands if the attempt is cut off where nothing below foresees it
        try:
            if job.scheduler_id is not None:
                await self._advance_schedule(job)
            refusal = self._policy.refusal(job)
            # run() has checked that there is a handler
            value = await (self._handler(job) if refusal is None else self._refuse(job, refusal))  # pyright: ignore[reportOptionalCall]
            if type(value) is not Later:
                outcome = self._policy.completed(job, value)
            elif self._tracing is None:
                attempt.later = value
            else:
                value = await value.answer()  # the attempt's span is over when it is written
                outcome = self._policy.completed(job, value)
        except asyncio.CancelledError as error:
            outcome, value = self._after_cancel(attempt, error), error
        except Exception as error:  # noqa: BLE001 - whatever a handler raises is an outcome of its attempt
            if isinstance(error, RateLimited):
                await self._limit_queue(error.delay)
            outcome, value = self._after_error(job, error)
        except BaseException as error:
            outcome, value = self._policy.failed(job, error), error
            raise
        finally:
            ended = self._end(attempt, outcome, value) if attempt.later is None else self._write(attempt, attempt.later)
        return ended

    def _after_error(self, job: Job, error: Exception) -> tuple[Outcome | None, BaseException]:
        settled = job.lease_given_up and isinstance(error, WaitForChildren)
        outcome = None if settled else self._policy.failed(job, error)
        self._log_failure(job, outcome, error)
        return outcome, error.error if isinstance(error, Decided) else error

    def _write(self, attempt: _Attempt, later: Later) -> None:
        """The handler is through, and what came of it is being written: the slot is free, the lease is not."""
        if self._running.pop(attempt.lease, None) is None:
            return  # handed back before, while its handler would not end
        attempt.task = None
        self._writing[attempt.lease] = attempt
        later.then(partial(self._on_written, attempt))
        self._wake.set()

    def _on_written(self, attempt: _Attempt, answer: Any) -> None:
        job = attempt.job
        try:
            if isinstance(answer, Exception):
                raise answer
            outcome = Released() if isinstance(answer, asyncio.CancelledError) else self._policy.completed(job, answer)
        except Exception as error:  # noqa: BLE001 - as in an attempt
            outcome, answer = self._after_error(job, error)
        self._end(attempt, outcome, answer)

    async def _refuse(self, job: Job, refusal: BaseException) -> Any:
        if self._on_refusal is None:
            raise refusal
        return await self._on_refusal(job, refusal)

    def _log_failure(self, job: Job, outcome: Outcome | None, error: Exception) -> None:
        if isinstance(error, Decided):
            return  # who decided has told of it
        if isinstance(outcome, Failed):
            log.warning("queue %s: job %s (%s) failed for good", job.queue, job.id, job.name, exc_info=error)
        elif isinstance(outcome, RetryNow | RetryLater):
            log.info("queue %s: job %s (%s) failed and is tried again: %s", job.queue, job.id, job.name, outcome.reason)

    def _after_cancel(self, attempt: _Attempt, error: asyncio.CancelledError) -> Outcome:
        if attempt.job.cancel_reason is not None and not attempt.handed_back:
            return self._policy.failed(attempt.job, error)
        task = attempt.task
        if task is not None and task.cancelling():
            return Released()  # a shutdown: the job is to run elsewhere, at once
        return self._policy.failed(attempt.job, error)  # the handler awaited something that was cancelled

    def _end(self, attempt: _Attempt, outcome: Outcome | None, value: Any = None) -> _Ended | None:
        """What is to be settled of it, if anything is."""
        held = self._running if attempt.later is None else self._writing
        if held.pop(attempt.lease, None) is None:
            return None  # handed back before, while its handler would not end
        self._wake.set()
        if self._idle is not None and not self._busy:
            self._idle.set()
        if outcome is None or attempt.lost:
            return None
        ended = _Ended(attempt.lease, outcome, attempt.job, value)
        self._ended.append(ended)
        return ended

    def _report(self, settled: list[_Ended], codes: list[int], *, again: bool) -> None:
        """Tell what became of settled attempts; those that the script refused for their children are settled anew."""
        if self._tracing is not None:
            self._tracing.settled([(e.job, e.outcome) for e, code in zip(settled, codes, strict=True) if code == 0])
        if not any(codes) and not self._events.heard("completed") and not self._events.heard("failed"):
            return
        for ended, code in zip(settled, codes, strict=True):
            job = ended.job
            if code == 0:
                self._tell(ended)
            elif code == 1:
                # It asked to wait for children, and none is left: it runs again, from its start.
                self._ended.append(_Ended(ended.lease, Released(), job))
            elif code in (PendingChildren.code, FailedChildren.code) and job is not None:
                error = self._store.error(code, job.stored_id)
                self._ended.append(_Ended(ended.lease, self._policy.failed(job, error), job, error))
            elif code == _BROKEN:
                error = self._store.error(code, ended.lease.stored_id)
                log.error("%s", error)
                self._events.emit("failed", job, error)
            elif not again:
                error = self._store.error(code, ended.lease.stored_id)
                log.warning("%s; its outcome was dropped, the run that holds the job counts", error)
                if job is not None:
                    self._events.emit("lease_lost", job)

    def _tell_progress(self, job: Job, value: Any) -> None:
        self._events.emit("progress", job, value)

    def _tell(self, ended: _Ended) -> None:
        if ended.job is not None:
            ended.job.token = None  # a callback that still writes to the job does so without a lease
        if isinstance(ended.outcome, Completed):
            if ended.job is not None:
                ended.job.result = ended.value
            self._events.emit("completed", ended.job, ended.value)
        elif isinstance(ended.outcome, Failed | RetryNow | RetryLater):
            self._events.emit("failed", ended.job, ended.value)

    # Waiting --------------------------------------------------------------------------------------------------------------------

    async def _rest(self, doorbell: Doorbell) -> None:
        """Wait for something to do: an attempt that ends, a ring, the next due job, the end of a limit."""
        self._wake.clear()
        keys, wait = self._store.keys, None
        if self._free():
            doorbell.arm(keys, self._ring)
            wait = self._prospect.wait()
        else:
            doorbell.disarm(keys, self._ring)
            await self._pass_alarm_on()
        self._heartbeat.rest()
        if not await self._clock.wait(self._wake, wait):
            self._prospect.look_again()

    def _ring(self, due_ms: int) -> bool:
        if not self._free():
            return False
        self._prospect.ring(due_ms)
        self._wake.set()
        return True

    async def _pass_alarm_on(self) -> None:
        """Put back the marker of the next due job, which was popped here and will not be heeded here: others would hear
        of the job late.
        """
        if due_ms := self._prospect.alarm_ms:
            await put_marker(self._store.connection, self._store.keys.marker, due_ms)
        self._prospect.forget_alarm()

    def _look_again(self) -> None:
        self._prospect.look_again()
        self._wake.set()

    def _known_empty(self) -> bool:
        doorbell = self._doorbell
        return (
            doorbell is not None
            and not self._busy
            and doorbell.saw_empty(self._store.keys, within=self._stalled_interval)
        )

    # Leases, limits, schedules --------------------------------------------------------------------------------------------------

    def _held_leases(self) -> list[Lease]:
        # One that is being written has no handler that could be told again.
        writing = [lease for lease, attempt in self._writing.items() if not attempt.lost]
        return [*self._running, *writing, *(ended.lease for ended in self._ended)]

    def _on_renewal(self, renewal: Renewal) -> None:
        if renewal.renewed:
            self._events.emit("leases_renewed", [public_id(stored_id) for stored_id in renewal.renewed])
        for lease in renewal.lost:
            attempt = self._running.get(lease) or self._writing.get(lease)
            if attempt is None:
                continue
            log.warning(
                "queue %s: job %s was taken over, %s",
                self._store.keys.name,
                attempt.job.id,
                "its handler is cancelled" if attempt.later is None else "what its handler came to does not count here",
            )
            attempt.lost = True
            if attempt.later is None:
                self._cancel(attempt, "the lease was lost: another worker has the job")
            self._events.emit("lease_lost", attempt.job)

    def _cancel(self, attempt: _Attempt, reason: str) -> None:
        attempt.job.mark_cancelled(reason)
        if attempt.task is not None:
            # Behind the task's first step: one that is cancelled before it never runs, and its slot would not come back.
            asyncio.get_running_loop().call_soon(attempt.task.cancel, reason)

    async def _limit_queue(self, delay: float) -> None:
        delay = bounded_delay(delay)
        pause_ms = max(1, round(delay * 1000))
        worker_max = None if self._rate_limit is None else self._rate_limit.max
        with contextlib.suppress(StoreError):
            await lengthen_limit(self._store, pause_ms, worker_max=worker_max)
        self._prospect.limit(delay)

    async def _advance_schedule(self, job: Job) -> None:
        """Arm the scheduler's next run. Waits out an outage: a schedule that is not advanced stops."""
        name, scheduler_id = self._store.keys.name, job.scheduler_id
        await waited_out(
            lambda: advance(self._store, job, strategy=self._schedule_strategy),
            clock=self._clock,
            passes=lambda error: isinstance(error, StoreUnavailable),
            told=lambda error: log.warning(
                "queue %s: the schedule %s waits for its next run: %s", name, scheduler_id, error
            ),
        )

    # Outages and the end --------------------------------------------------------------------------------------------------------

    def _lose_turn(self) -> None:
        """The last turn's reply did not come: what it was to settle is settled again, and what it claimed is asked for."""
        lost = [ended for flight in self._flying.values() for ended in flight.ended]
        self._ended = lost + self._ended
        self._flying.clear()
        self._prospect.look_again()

    def _greet(self) -> None:
        if self._reachable is None:
            self._events.emit("ready")
            self._server_check = asyncio.create_task(self._check_server(), name="taurine server check")
        else:
            log.warning(
                "worker of %s: the server at %s answers again", self._store.keys.name, self._store.connection.where
            )
        self._reachable = True

    async def _check_server(self) -> None:
        with contextlib.suppress(StoreError):
            for warning in await server_warnings(self._store.connection):
                log.warning("worker of %s: %s", self._store.keys.name, warning)

    def _tasks(self) -> set[asyncio.Task[Any]]:
        return {attempt.task for attempt in self._running.values() if attempt.task is not None}

    async def _hand_back(self) -> None:
        """End the handlers that still run; their jobs go back to the front of the line, as do those whose outcome
        cannot be written.
        """
        attempts = [*self._running.values(), *self._writing.values()]
        if not attempts:
            return
        for attempt in attempts:
            attempt.handed_back = True
            if attempt.later is None:
                self._cancel(attempt, "the worker stops; the job is handed back")
            else:
                attempt.later.hurry()
        await self._until_idle(_CANCEL_TIME)
        for attempt in attempts:  # those that would not end
            if attempt.later is not None:
                attempt.later.abandon()
            self._end(attempt, Released())

    @property
    def _busy(self) -> bool:
        return bool(self._running or self._writing)

    async def _until_idle(self, timeout: float | None) -> None:
        """Return when nothing runs and nothing is being written, or after `timeout` seconds."""
        if not self._busy:
            return
        if self._idle is None:
            self._idle = asyncio.Event()
        self._idle.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._idle.wait()

    async def _close(self, doorbell: Doorbell) -> None:
        """The last of `run`, also when it was cancelled: nothing is kept that could be handed back."""
        doorbell.disarm(self._store.keys, self._ring)
        self._stopping = True
        self._lose_turn()
        async with contextlib.AsyncExitStack() as stack:  # all of it, however often this is cancelled
            stack.callback(self._events.emit, "closed")
            stack.callback(self._heartbeat.rest)
            stack.push_async_callback(self._turns.close)
            stack.push_async_callback(self._sweep.stop)
            stack.push_async_callback(self._leases.stop)
            if self._server_check is not None:
                stack.push_async_callback(asyncio.wait, {self._server_check})
            await self._hand_back()
            await self._settle_last()

    async def _settle_last(self) -> None:
        with contextlib.suppress(StoreError, TimeoutError):
            async with asyncio.timeout(_SETTLE_TIME):
                while self._has_turn(0):
                    await self._take_turns()
                await self._pass_alarm_on()
        if unsent := len(self._ended) + sum(len(flight.ended) for flight in self._flying.values()):
            log.warning(
                "worker of %s: %d outcomes could not be delivered; the jobs run again later",
                self._store.keys.name,
                unsent,
            )


def _checked_handler(handler: Handler | None) -> Handler | None:
    if handler is not None and (not callable(handler) or _is_plain_function(handler)):
        raise InvalidOption(f"expected the handler to be an async function of a job, got {handler!r:.80}")
    return handler


def _is_plain_function(handler: object) -> bool:
    """True for a `def` that is no coroutine function; a lambda may well return a coroutine."""
    return inspect.isfunction(handler) and handler.__name__ != "<lambda>" and not inspect.iscoroutinefunction(handler)


def _checked_name(name: str) -> str:
    if any(character.isspace() or not character.isprintable() for character in name):
        raise InvalidOption(f"expected the worker's name to be printable and without spaces, got {name!r:.80}")
    return name


def _checked_limit(limit: RateLimit | None) -> RateLimit | None:
    if limit is not None and not isinstance(limit, RateLimit):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected rate_limit to be a RateLimit, got {type(limit).__name__}")
    return limit


def _checked_concurrency(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected concurrency to be a whole number from 1, got {value!r}")
    return value


def _text(raw_id: bytes) -> str:
    return raw_id.decode("utf-8", "replace")
