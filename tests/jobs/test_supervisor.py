"""`processes=N`: what the supervisor does when its processes crash, fail to start, are told to end, and when it dies
itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from support.eventually import eventually
from support.executing import descriptors, is_alive
from taurine.errors import InvalidOption, SupervisorGaveUp
from taurine.jobs.worker.supervised import main
from taurine.jobs.worker.supervisor import Supervisor

PROGRAMS = "support.supervised_programs"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


@pytest.fixture(autouse=True)
async def nothing_left(notes: Path) -> AsyncIterator[None]:
    before = descriptors()
    yield
    pids = {int(pid) for _, _, pid in read(notes)}
    await eventually(lambda: not any(map(is_alive, pids)), 10, "a supervised process lives")
    assert descriptors() == before


def read(notes: Path) -> list[tuple[str, str, str]]:
    lines = notes.read_text().splitlines() if notes.exists() else []
    return [(number, word, pid) for number, word, pid in (line.split() for line in lines)]


def count(notes: Path, word: str) -> int:
    return sum(noted == word for _, noted, _ in read(notes))


def command(program: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "taurine.jobs.worker.supervised", f"{PROGRAMS}:{program}", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(filter(None, sys.path))}


def supervisor(program: str, notes: Path, *, processes: int = 2, grace: float = 20, **options: Any) -> Supervisor:
    return Supervisor(
        command(program, notes), processes=processes, environment=environment(), grace=grace, backoff=0.01, **options
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_is_passed_on_as_sigterm(notes: Path, number: int) -> None:
    running = supervisor("serve", notes, processes=3)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") == 3, 30)
    assert {noted for noted, _, _ in read(notes)} == {"1", "2", "3"}
    assert sorted(running.pids) == [1, 2, 3]
    os.kill(os.getpid(), number)
    await asyncio.wait_for(run, 30)
    assert count(notes, "told") == 3
    assert running.restarts == 0


async def test_a_second_signal_is_passed_on_and_shortens_the_time(
    notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F09, seen from the supervisor: these processes heed neither of the two."""
    running = supervisor("ignore", notes, grace=3_600, hurried_grace=0.2)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") == 2, 30)
    os.kill(os.getpid(), signal.SIGTERM)
    await eventually(lambda: count(notes, "told") == 2, 30)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(run, 30)
    assert count(notes, "hurried") == 2
    assert "did not end within 0.2 s and is killed" in caplog.text


async def test_without_the_option_signals_are_left_alone(notes: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    running = supervisor("serve", notes, processes=1)
    run = asyncio.create_task(running.run(handle_signals=False))
    await eventually(lambda: count(notes, "started") == 1, 30)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    running.stop()
    await asyncio.wait_for(run, 30)


async def test_who_does_not_end_within_the_grace_is_killed(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = supervisor("ignore", notes, grace=0.2)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") == 2, 30)
    running.stop()
    await asyncio.wait_for(run, 30)
    assert count(notes, "told") == 2
    assert "did not end within 0.2 s and is killed" in caplog.text


async def test_a_process_that_crashes_is_started_again(
    notes: Path, caplog: pytest.LogCaptureFixture, figure: Callable[[str], None]
) -> None:
    running = supervisor("crash_once_each", notes)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") == 4, 30)
    assert running.restarts == 2
    assert "ended by itself with signal 6 (SIGABRT)" in caplog.text
    running.stop()
    await asyncio.wait_for(run, 30)
    figure("supervisor: 2 of 2 crashed processes started again")


async def test_crashes_of_a_program_that_starts_never_end_it(notes: Path) -> None:
    """F06: a poisonous job may kill its worker again and again; that is no reason to stop working."""
    running = supervisor("crash_when_ready", notes, processes=1, max_start_failures=2, longest_backoff=0.02)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") >= 5, 30)
    running.stop()
    await asyncio.wait_for(run, 30)


async def test_a_program_that_does_not_start_ends_all(notes: Path) -> None:
    running = supervisor("fail_to_start", notes, max_start_failures=3)
    with pytest.raises(SupervisorGaveUp, match="3 worker processes in a row ended within 5 s of their start") as raised:
        await asyncio.wait_for(running.run(), 30)
    assert "exit code 3" in str(raised.value)
    assert raised.value.exit_code == 3


@pytest.mark.parametrize(
    ("program", "healthy_after"), [("serve", 3_600), ("ignore", 0.2)], ids=["they say so", "they have run for a while"]
)
async def test_the_start_is_told_once_all_have_started(notes: Path, program: str, healthy_after: float) -> None:
    told: list[int] = []
    running = supervisor(
        program,
        notes,
        processes=3,
        healthy_after=healthy_after,
        hurried_grace=0.2,
        on_started=lambda: told.append(len(running.pids)),
    )
    run = asyncio.create_task(running.run())
    await eventually(lambda: told, 30, "nobody was told")
    running.hurry()
    await asyncio.wait_for(run, 30)
    assert told == [3]


async def test_a_program_that_does_not_start_is_not_said_to_have_started(notes: Path) -> None:
    told: list[str] = []
    running = supervisor("fail_to_start", notes, on_started=lambda: told.append("started"), hint="Ask Ann.")
    with pytest.raises(SupervisorGaveUp, match=r"what they printed says why\. Ask Ann\."):
        await asyncio.wait_for(running.run(), 30)
    assert told == []


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    running = Supervisor([str(tmp_path / "missing")], processes=2)
    with pytest.raises(SupervisorGaveUp, match="cannot be made"):
        await asyncio.wait_for(running.run(), 30)


async def test_restarts_wait_longer_and_longer(notes: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = supervisor("crash_when_ready", notes, processes=1, longest_backoff=0.04)
    run = asyncio.create_task(running.run())
    await eventually(lambda: count(notes, "started") >= 5, 30)
    running.stop()
    await asyncio.wait_for(run, 30)
    pauses = [
        record.getMessage().rpartition(" in ")[2] for record in caplog.records if "again in" in record.getMessage()
    ]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]


async def test_cancelling_ends_all_processes(notes: Path) -> None:
    run = asyncio.create_task(supervisor("ignore", notes).run())
    await eventually(lambda: count(notes, "started") == 2, 30)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize(("program", "word"), [("serve", "told"), ("ignore", "told")])
async def test_the_processes_end_when_the_supervisor_is_killed(notes: Path, program: str, word: str) -> None:
    """They are told as by a signal, and ended when they do not heed it."""
    script = f"""
        import asyncio
        from taurine.jobs.worker.supervisor import Supervisor
        asyncio.run(Supervisor({command(program, notes)!r}, processes=2, grace=0.5).run())
    """
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(script), env={**os.environ, **environment()}
    )
    await eventually(lambda: count(notes, "started") == 2, 30)
    parent.kill()
    await parent.wait()
    await eventually(lambda: not any(is_alive(int(pid)) for _, _, pid in read(notes)), 20, "they live")
    assert count(notes, word) == 2


def test_a_program_gets_its_arguments_and_gives_its_exit_code() -> None:
    done = subprocess.run(
        command("say", "a", "b c"),
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("a b c", 5)


@pytest.mark.parametrize("target", [[], ["nothing"], [":name"]])
def test_a_target_that_names_nothing(target: list[str]) -> None:
    with pytest.raises(InvalidOption, match="expected 'module:attribute'"):
        main(target)


@pytest.mark.parametrize(
    "options", [{"processes": 0}, {"grace": -1}, {"hurried_grace": -1}, {"max_start_failures": 0}, {"backoff": 60}]
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(InvalidOption):
        Supervisor(["true"], **{"processes": 1, **options})  # pyright: ignore[reportArgumentType] - as an untyped caller
