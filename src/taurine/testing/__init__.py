"""What a team tests its jobs with. docs/testing.md shows each.

run_job, attempt_job     one attempt of a handler, right here: its result, or what a worker would make of it
DetachedContext          what the handler is given then: to say what it finds, and to see what it told
Recorder                 what was enqueued, without a server; and those jobs run right here
drain                    a worker over real servers until nothing is left to do
TestClock                time that the test moves
run_twice, run_at_failpoints   whether a handler may run again, and break off anywhere

The pytest fixtures are in `taurine.testing.fixtures`; nothing here imports pytest.
"""

from __future__ import annotations

from taurine.jobs.handler.detached import DetachedContext, MemoryEffects
from taurine.testing.app_factory import AppFactory
from taurine.testing.clock import TestClock
from taurine.testing.draining import Drained, DrainTimeout, Until, drain, drain_sync
from taurine.testing.outcomes import AttemptStatus, JobAttempt, attempt_job, attempt_job_sync
from taurine.testing.recorded import RecordedJob
from taurine.testing.recorder import Recorder
from taurine.testing.reruns import (
    Failpoint,
    Rerun,
    RerunReport,
    Reset,
    Snapshot,
    run_at_failpoints,
    run_at_failpoints_sync,
    run_twice,
    run_twice_sync,
)
from taurine.testing.running import RunOptions, run_job, run_job_sync

__all__ = [
    "AppFactory",
    "AttemptStatus",
    "DetachedContext",
    "DrainTimeout",
    "Drained",
    "Failpoint",
    "JobAttempt",
    "MemoryEffects",
    "RecordedJob",
    "Recorder",
    "Rerun",
    "RerunReport",
    "Reset",
    "RunOptions",
    "Snapshot",
    "TestClock",
    "Until",
    "attempt_job",
    "attempt_job_sync",
    "drain",
    "drain_sync",
    "run_at_failpoints",
    "run_at_failpoints_sync",
    "run_job",
    "run_job_sync",
    "run_twice",
    "run_twice_sync",
]
