"""The checker of the fault tests must itself fail on a history that breaks a promise, one case for each way to break
it.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.history import History, Verdict, check
from taurine.errors import StoreRefused, StoreUnavailable


@dataclass
class Run:
    """A history written by hand, by a system that works unless told otherwise."""

    history: History
    states: dict[str, str] = field(default_factory=dict)

    def enqueue(self, *jobs: str) -> None:
        with self.history.enqueuing(*jobs):
            self.states |= dict.fromkeys(jobs, "waiting")

    def begin(self, job: str, worker: str = "w1", attempt: int = 1) -> None:
        self.history.start(job, token=f"{worker}:{attempt}", worker=worker)
        self.history.effect(job, token=f"{worker}:{attempt}", worker=worker)

    def end(
        self, job: str, worker: str = "w1", attempt: int = 1, outcome: str = "completed", accepted: bool = True
    ) -> None:
        called = time.monotonic()
        self.history.finish(
            job, token=f"{worker}:{attempt}", worker=worker, outcome=outcome, accepted=accepted, called=called
        )
        if accepted:
            self.states[job] = outcome if outcome != "retried" else "waiting"

    def work(self, *jobs: str) -> None:
        for job in jobs:
            self.begin(job)
            self.end(job)

    def verdict(self, **faults: int) -> Verdict:
        return check(self.history, states=self.states, faults=faults)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(History(tmp_path))


def test_a_good_history_passes_and_its_figures_have_denominators(run: Run) -> None:
    run.enqueue("a", "b", "c")
    run.work("a", "b", "c")

    verdict = run.verdict()
    verdict.require()
    assert verdict.violations == ()
    assert verdict.summary() == (
        "lost 0/3 acked of 3 attempted, recovered 0/0 unknown, unexpected 0, duplicated 0/3 run, "
        "excess_duplicates 0, stale_writes 0, stuck 0, hollow 0, divergent 0, faults 0"
    )


def test_a_kill_explains_one_repeat(run: Run) -> None:
    run.enqueue("a", "b")
    run.work("b")
    run.begin("a", "w1")
    run.history.fault("SIGKILL", worker="w1")
    run.begin("a", "w2", 2)
    run.end("a", "w2", 2)

    verdict = run.verdict()
    verdict.require()
    assert verdict.duplicated == {"a": 1}
    assert (verdict.faults, len(verdict.recover_seconds)) == (1, 1)


def test_a_retry_explains_one_repeat(run: Run) -> None:
    run.enqueue("a")
    run.begin("a")
    run.end("a", outcome="retried")
    run.begin("a", attempt=2)
    run.end("a", attempt=2, outcome="failed")

    run.verdict().require()


def test_who_has_returned_holds_its_lease_until_that_is_recorded(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.end("a", "w1", outcome="returned", accepted=False)
    run.history.fault("SIGKILL", worker="w1")
    run.begin("a", "w2", 2)
    run.end("a", "w2", 2)

    run.verdict().require()


def test_an_old_owner_that_is_refused_is_fine(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.history.fault("SIGSTOP", worker="w1")
    run.begin("a", "w2", 2)
    run.end("a", "w1", accepted=False)
    run.end("a", "w2", 2)

    run.verdict().require()


def test_a_write_in_time_whose_answer_is_recorded_late_is_fine(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    in_time = time.monotonic()
    run.history.fault("SIGSTOP", worker="w1")
    run.begin("a", "w2", 2)
    run.history.write("a", token="w1:1", worker="w1", called=in_time, accepted=True)
    run.end("a", "w2", 2)

    run.verdict().require()


def test_an_unknown_enqueue_may_run_or_not(run: Run) -> None:
    for job in ("ran", "gone"):
        with pytest.raises(StoreUnavailable), run.history.enqueuing(job):
            raise StoreUnavailable("no answer")
    run.work("ran")

    verdict = run.verdict()
    verdict.require()
    assert (verdict.unknown, verdict.recovered) == ({"ran", "gone"}, {"ran"})


def test_a_job_that_is_gone_has_ended_if_its_finish_was_recorded(run: Run) -> None:
    run.enqueue("a")
    run.work("a")
    del run.states["a"]

    run.verdict().require()


# What a broken system would leave behind.


def acknowledges_before_it_writes(run: Run) -> None:
    run.enqueue("a", "b")
    run.work("a")
    del run.states["b"]


def drops_one_of_a_thousand(run: Run) -> None:
    jobs = [f"j{n}" for n in range(1_000)]
    run.enqueue(*jobs)
    run.work(*(job for job in jobs if job != "j500"))
    del run.states["j500"]


def leaves_a_job_active(run: Run) -> None:
    run.enqueue("a")
    run.begin("a")
    run.history.fault("SIGKILL", worker="w1")
    run.states["a"] = "active"


def invents_a_job(run: Run) -> None:
    run.work("ghost")


def runs_what_it_refused(run: Run) -> None:
    with pytest.raises(StoreRefused), run.history.enqueuing("a"):
        raise StoreRefused("out of memory")
    run.work("a")


def runs_twice_without_a_fault(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.begin("a", "w2", 2)
    run.end("a", "w2", 2)


def runs_three_times_for_one_kill(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.history.fault("SIGKILL", worker="w1")
    run.begin("a", "w2", 2)
    run.begin("a", "w3", 3)
    run.end("a", "w3", 3)


def repeats_what_the_killed_worker_had_finished(run: Run) -> None:
    run.enqueue("a")
    run.work("a")
    run.history.fault("SIGKILL", worker="w1")
    run.begin("a", "w2", 2)


def ignores_the_token(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.history.fault("SIGSTOP", worker="w1")
    run.begin("a", "w2", 2)
    run.end("a", "w1")


def takes_progress_from_an_old_owner(run: Run) -> None:
    run.enqueue("a")
    run.begin("a", "w1")
    run.history.fault("SIGSTOP", worker="w1")
    run.begin("a", "w2", 2)
    run.history.write("a", token="w1:1", worker="w1", called=time.monotonic(), accepted=True, note="progress")
    run.end("a", "w2", 2)


def accepts_two_ends(run: Run) -> None:
    run.enqueue("a")
    run.begin("a")
    for outcome in ("completed", "failed"):
        run.history.finish("a", token="w1:1", worker="w1", outcome=outcome)
    run.states["a"] = "failed"


@pytest.mark.parametrize(
    ("broken", "violations"),
    [
        (acknowledges_before_it_writes, ["1 lost: b"]),
        (drops_one_of_a_thousand, ["1 lost: j500"]),
        (leaves_a_job_active, ["1 lost: a", "1 stuck: a"]),
        (invents_a_job, ["1 unexpected: ghost"]),
        (runs_what_it_refused, ["1 unexpected: a"]),
        (runs_twice_without_a_fault, ["1 excess duplicates: ('a', 1)"]),
        (runs_three_times_for_one_kill, ["1 excess duplicates: ('a', 1)"]),
        (repeats_what_the_killed_worker_had_finished, ["1 excess duplicates: ('a', 1)"]),
        (ignores_the_token, ["1 stale writes: finish of a under w1:1, after w2:2 had started"]),
        (takes_progress_from_an_old_owner, ["1 stale writes: progress of a under w1:1, after w2:2 had started"]),
        (accepts_two_ends, ["1 stale writes: a failed under w1:1, after w1:1 had ended it"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_broken_system_is_found(run: Run, broken: Callable[[Run], None], violations: list[str]) -> None:
    broken(run)

    verdict = run.verdict()
    assert list(verdict.violations) == violations
    with pytest.raises(AssertionError, match=violations[0].split(":", maxsplit=1)[0]):
        verdict.require()


def test_faults_that_only_the_test_knows_explain_repeats_too(run: Run) -> None:
    runs_twice_without_a_fault(run)

    run.verdict(a=1).require()


def _write_many(directory: Path, worker: str) -> None:
    history = History(directory)
    for n in range(200):
        history.start(f"{worker}-{n}", token="t", worker=worker)
        history.effect(f"{worker}-{n}", token="t", worker=worker)


def test_several_processes_write_one_history(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_many, args=(tmp_path, f"w{n}")) for n in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(30)

    history = History(tmp_path)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert len(history.events()) == 600
    assert len(history.effects()) == 600
    assert [event.at for event in history.events()] == sorted(event.at for event in history.events())


def test_records_and_queues_that_disagree_break_the_promise(run: Run) -> None:
    run.enqueue("a")
    run.work("a")

    verdict = check(run.history, states={"a": "completed"}, divergent=2)

    assert len(verdict.violations) == 1
    assert verdict.violations[0].startswith("2 divergent")
    assert "divergent 2" in verdict.summary()
