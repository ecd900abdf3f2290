"""The demo as a user sees it: a process, its output and exit code, and what it leaves behind."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any, cast

import pytest

from embedded.processes import SOURCE, processes_on
from support.eventually import eventually

pytestmark = pytest.mark.timeout(240)

TICKETS = 120
MOMENTS = ["Taurine", "desk", "server", "mail", "workers", "accepted", "triage", "kill -9", "dead", "cancel"]
PATIENCE = 200
"""Seconds for one run, on a machine that has other things to do."""

ELSEWHERE = {
    "REDIS_URL": "redis://127.0.0.1:1",
    "TAURINE_DATABASE_URL": "postgresql://127.0.0.1:1/none",
    "TAURINE_PREFIX": "x",
    "TAURINE_ENV": "production",
}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the demo with its temporary files in the test's own directory, where nothing may be left."""
    started: list[subprocess.Popen[str]] = []

    def spawn(
        *arguments: str, output: int = subprocess.PIPE, errors: int = subprocess.STDOUT, **environment: str
    ) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        demo = subprocess.Popen(
            [sys.executable, "-m", "taurine.demo", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
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
        for stream in (demo.stdout, demo.stderr):
            if stream is not None:
                stream.close()
    for left in processes_on(tmp_path):  # those of a test that has failed
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def until(demo: subprocess.Popen[str], word: str) -> str:
    """Read the demo's output up to the line that starts with `word`."""
    seen = ""
    for line in cast(IO[str], demo.stdout):
        seen += line
        if line.startswith(word):
            return seen
    raise AssertionError(f"the demo ended without the line {word!r}; it said:\n{seen}")


def assert_nothing_is_left(tmp_path: Path) -> None:
    assert not list(tmp_path.iterdir()), "files are left behind"
    assert not processes_on(tmp_path), "processes are left behind"


def test_its_table_is_true(start: Start, tmp_path: Path) -> None:
    """SEED-016, 034, 046, 206 to 210, from outside: what the table says is counted again in the files that are kept.

    Nor can the environment lead it to other servers.
    """
    home = tmp_path / "home"
    demo = start("--json", "--tickets", str(TICKETS), "--home", str(home), errors=subprocess.PIPE, **ELSEWHERE)
    output, story = demo.communicate(timeout=PATIENCE)

    assert demo.returncode == 0, story
    assert "\x1b" not in output + story, "control sequences where there is no terminal"
    report = json.loads(output)
    table = report["table"]
    assert report["holds"] is True
    assert all(row["holds"] for row in report["rows"])
    reports = rows(home / "desk.db", "SELECT count(*) FROM report")[0][0]
    assert reports >= 1
    assert table["accepted"] == TICKETS + 2 + reports
    assert table["completed"] == TICKETS + 1 + reports
    assert table["retried"] >= 2 + TICKETS // 25 - 1, "the poison, and letters that were to come again"
    assert table["duplicates refused"] == 100
    assert (table["dead"], table["redriven"], table["cancelled"]) == (1, 1, 1)
    assert table["recovered"] >= 2, "the export, and a ticket whose letter was in doubt"
    assert (table["lost"], table["e-mails sent twice"], table["ended badly"]) == (0, 0, 0)
    assert table["jobs per second"] > 0

    letters = [message_id for (message_id,) in rows(home / "mailbox.db", "SELECT message_id FROM letter")]
    expected = {f"triage.{number}@desk.example" for number in range(1, TICKETS + 1)}
    assert len(letters) == len(set(letters)) == table["e-mails sent"] == TICKETS + reports
    assert expected < set(letters)
    assert rows(home / "desk.db", "SELECT count(*), count(DISTINCT number) FROM routing") == [(TICKETS, TICKETS)]
    with (home / "exports" / "all-tickets.csv").open(encoding="utf-8", newline="") as file:
        assert sorted(int(row["number"]) for row in csv.DictReader(file)) == list(range(1, TICKETS + 1))
    assert not processes_on(tmp_path), "processes are left behind"
    for scene in ("duplicates", "kill -9", "dead", "redrive", "export", "cancel", "schedule"):
        assert re.search(rf"^{scene} ", story, re.MULTILINE), f"{scene} in:\n{story}"
    assert_commands_work(report["commands"])
    assert not processes_on(tmp_path), "a command has left a process behind"


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query).fetchall()


def assert_commands_work(commands: list[str]) -> None:
    """As somebody would do who copies them into a shell."""
    shown = subprocess.run(
        ["sh", "-ec", "\n".join(commands)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert shown.returncode == 0, shown.stderr
    for words in ("watch:night", "UnicodeDecodeError", "resumed_at", "desk.report", "Records and queues agree"):
        assert words in shown.stdout, f"{words} in:\n{shown.stdout}"


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_gets_bars_and_colours_unless_they_are_unwanted(
    start: Start, tmp_path: Path, no_color: bool
) -> None:
    ours, theirs = pty.openpty()
    demo = start("--tickets", "100", output=theirs, TERM="xterm-256color", **({"NO_COLOR": "1"} if no_color else {}))
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # what Linux answers when the other side has closed
        while part := os.read(ours, 4096):
            shown += part
    os.close(ours)
    text = shown.decode()

    assert demo.wait() == 0, text
    assert "━" in text, "no bar"
    assert re.search(r"triage +.*\d+/100", text)
    assert re.search(r"export +.*\d+/100", text)
    assert "e-mails sent twice" in text
    assert "FAILED" not in text
    assert "taurine demo --serve" in text, "it does not say where to look next"
    assert bool(re.search(r"\x1b\[[\d;]*3[1-7]m|\x1b\[38;", text)) is not no_color
    assert_nothing_is_left(tmp_path)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_ctrl_c_at_any_time_leaves_nothing_behind(start: Start, tmp_path: Path, moment: str) -> None:
    demo = start("--tickets", "100")
    until(demo, moment)
    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
    rest, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, rest
    assert "Traceback" not in rest
    assert_nothing_is_left(tmp_path)


def test_a_ctrl_c_before_anything_is_said_is_no_error(start: Start, tmp_path: Path) -> None:
    """While it still imports: its own code runs by then, since the first of its dependencies is loaded."""
    demo = start("--tickets", "200")
    while demo.poll() is None and "pydantic_core" not in Path(f"/proc/{demo.pid}/maps").read_text():
        pass
    os.killpg(demo.pid, signal.SIGINT)
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, output
    assert "Traceback" not in output
    assert_nothing_is_left(tmp_path)


def test_serve_keeps_it_up_until_ctrl_c(start: Start, tmp_path: Path) -> None:
    demo = start("--serve", "--tickets", "100")
    seen = until(demo, "look around")
    assert "FAILED" not in seen
    lines = [seen.splitlines()[-1].removeprefix("look around").strip()]
    for line in cast(IO[str], demo.stdout):
        lines.append(line.strip())
        if line.endswith("verify\n"):
            break
    curl = re.search(r"curl -s .*", seen)
    assert curl is not None, "the API is not served"
    _, _, url, _, _, _, body = shlex.split(curl[0])
    request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as accepted:
        assert accepted.status == 202
        assert not json.load(accepted)["duplicate"]
    home = re.search(r"TAURINE_HOME=(\S+)", lines[0])
    assert home is not None
    command = [*shlex.split(lines[1])[:1], "--app", "taurine.demo.app:app", "queues", "--json"]
    workers = json.loads(
        subprocess.run(
            command,
            check=True,
            capture_output=True,
            timeout=PATIENCE,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "TAURINE_HOME": home[1]},
        ).stdout
    )
    assert "triage" in json.dumps(workers)
    os.killpg(demo.pid, signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)

    assert demo.returncode == 0, rest
    assert_nothing_is_left(tmp_path)


async def test_a_demo_that_is_killed_takes_its_processes_along(start: Start, tmp_path: Path) -> None:
    demo = start("--tickets", "400")
    until(demo, "triage")
    demo.kill()
    demo.wait()

    await eventually(lambda: not processes_on(tmp_path), 20, "processes outlive the demo")


def test_too_few_tickets_are_refused(start: Start) -> None:
    demo = start("--tickets", "0")
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert "expected a whole number from 100, got 0" in output


def test_a_home_that_holds_something_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    demo = start("--home", str(tmp_path))
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert "expected --home to be an empty directory" in output
    assert (tmp_path / "mine").read_text() == "precious"


def test_what_is_not_installed_is_named(start: Start, tmp_path: Path) -> None:
    """A machine without the mail server: an import of it fails, as it does where it is not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'aiosmtpd' else found(name, *more)\n"
    )
    demo = start(PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCE}")
    output, _ = demo.communicate(timeout=60)

    assert demo.returncode == 2
    assert 'the demo needs aiosmtpd: pip install "taurine[demo]"' in output
