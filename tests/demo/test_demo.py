"""The demo as a user sees it: a process, its output and exit code, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import pytest

from embedded.processes import SOURCE, processes_on
from support.eventually import eventually

FILES = 120
CHECKS = 8
MOMENTS = [
    "Taurine",
    "server",
    "workers",
    "producer",
    "indexing",
    "kill -9",
    "failing",
    "cancel",
    "flushall",
    "checking",
]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the demo with its temporary files in the test's own directory, where nothing may be left."""
    started: list[subprocess.Popen[str]] = []

    def spawn(*arguments: str, output: int = subprocess.PIPE, **environment: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        demo = subprocess.Popen(
            [sys.executable, "-m", "taurine.demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**inherited, "PYTHONPATH": str(SOURCE), "TMPDIR": str(tmp_path), **environment},
        )
        started.append(demo)
        return demo

    yield spawn
    for demo in started:
        with contextlib.suppress(ProcessLookupError):
            demo.kill()
        demo.wait()
        if demo.stdout is not None:
            demo.stdout.close()
    for left in processes_on(tmp_path):  # those of a test that has failed
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def rows(output: str) -> dict[str, tuple[float, float]]:
    """The table at the end: two numbers for each line."""
    found = re.findall(r"^([a-z ]+?) {2,}([\d,.]+) +([\d,.]+)\s*$", output, re.MULTILINE)
    return {name: (float(left.replace(",", "")), float(right.replace(",", ""))) for name, left, right in found}


def until(demo: subprocess.Popen[str], word: str) -> str:
    """Read the demo's output up to the line that starts with `word`."""
    seen = ""
    for line in cast(IO[str], demo.stdout):
        seen += line
        if line.startswith(word):
            return seen
    raise AssertionError(f"the demo ended without the line {word!r}; it said:\n{seen}")


def test_it_counts_right_loses_nothing_and_stops(start: Start, tmp_path: Path) -> None:
    demo = start("--limit", str(FILES))
    output, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, output
    assert len(re.findall(r"^ok ", output, re.MULTILINE)) == CHECKS, output
    table = rows(output)
    for name in ("files", "lines", "functions", "classes", "imports", "not parsed"):
        left, right = table[name]
        assert left == right, f"{name} in:\n{output}"
    assert table["files"] == (FILES, FILES)
    assert table["lines"][0] == lines_by_hand()
    for act in ("kill -9", "redrive", "duplicate", "cancel", "flushall", "restored"):
        assert re.search(rf"^{act} ", output, re.MULTILINE), f"{act} in:\n{output}"
    assert "\x1b" not in output, "control sequences where there is no terminal"
    assert not list(tmp_path.iterdir()), "files are left behind"
    assert not processes_on(tmp_path), "processes are left behind"


def lines_by_hand() -> int:
    """The lines of the files that `--limit` chooses, counted without any code of the demo."""
    root = sysconfig.get_path("stdlib")
    found = subprocess.run(
        ["find", root, "-name", "site-packages", "-prune", "-o", "-name", "*.py", "-type", "f", "-print"],
        check=True,
        capture_output=True,
        text=True,
    )
    files = sorted(str(Path(line).relative_to(root)) for line in found.stdout.splitlines())
    chosen = [files[at * len(files) // FILES] for at in range(FILES)]
    return sum(len(Path(root, file).read_bytes().splitlines()) for file in chosen)


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_a_bar_and_colours_unless_they_are_unwanted(start: Start, no_color: bool) -> None:
    ours, theirs = pty.openpty()
    demo = start("--limit", "24", output=theirs, TERM="xterm-256color", **({"NO_COLOR": "1"} if no_color else {}))
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # what Linux answers when the other side has closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    text = shown.decode()

    assert demo.wait() == 0, text
    assert "━" in text, "no bar"
    assert "24/24" in text
    assert bool(re.search(r"\x1b\[[\d;]*3[1-7]m|\x1b\[38;", text)) is not no_color


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_ctrl_c_at_any_time_leaves_nothing_behind(start: Start, tmp_path: Path, moment: str) -> None:
    demo = start("--limit", "200")
    until(demo, moment)
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    rest, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir()), "files are left behind"
    assert not processes_on(tmp_path), "processes are left behind"


def test_the_environment_cannot_lead_it_to_another_server(start: Start) -> None:
    elsewhere = {
        "REDIS_URL": "redis://127.0.0.1:1",
        "TAURINE_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "TAURINE_PREFIX": "x",
    }
    demo = start("--limit", "24", **elsewhere)
    output, _ = demo.communicate(timeout=100)

    assert demo.returncode == 0, output


async def test_a_demo_that_is_killed_takes_its_processes_along(start: Start, tmp_path: Path) -> None:
    demo = start("--limit", "400")
    until(demo, "indexing")
    demo.kill()
    demo.wait()

    await eventually(lambda: not processes_on(tmp_path), 20, "processes outlive the demo")


def test_a_limit_that_makes_no_sense_is_refused(start: Start) -> None:
    demo = start("--limit", "0")
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert "expected a whole number from 1, got 0" in output
