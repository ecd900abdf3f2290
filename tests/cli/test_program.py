"""The program as a whole: its help, how quickly it is there, pipes that close, completion, and words for what they
mean.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taurine.app import Taurine
from taurine.cli.forms import age, seconds_text
from taurine.cli.reading import read_queues, read_seconds
from taurine.errors import InvalidOption
from taurine.jobs.reporting.durations import short_text

COMMANDS = (
    "demo",
    "dev",
    "worker",
    "enqueue",
    "jobs",
    "job",
    "queues",
    "dead",
    "retry",
    "cancel",
    "top",
    "workers",
    "doctor",
    "verify",
    "migrate",
    "bench",
)

HEAVY = ("sqlalchemy", "redis", "alembic", "asyncio", "rich", "taurine.app", "taurine.settings")
"""What takes long to import. Typer itself takes Pydantic to read the words of a command; not for the help of the
program.
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["worker", "--help"], ["dead", "redrive", "--help"], ["jobs", "--limt", "3"]]
)
def test_help_imports_nothing_slow(words: list[str]) -> None:
    """What makes a command slow to start is what it imports: counted, since times say little on a busy machine."""
    heavy = (*HEAVY, "pydantic") if words[0].startswith("--") else HEAVY
    program = (
        "import sys\nsys.argv = ['taurine', *sys.argv[1:]]\nfrom taurine.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('loaded', sorted(set(sys.modules) & set({heavy!r})))"
    )
    run = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines()[-1] == "loaded []"


async def test_every_command_has_help_with_its_exit_codes(taurine: Callable[..., Any]) -> None:
    listed = await taurine("--help")
    helps = await asyncio.gather(*(taurine(command, "--help") for command in COMMANDS if command != "demo"))

    for command in COMMANDS:
        assert f"\n  {command} " in listed.out
    for one in helps:
        assert one.code == 0
        assert "Exit codes: 0 " in one.out


async def test_the_short_help_and_a_misspelt_command(process: Callable[..., Any]) -> None:
    short, misspelt, version = await asyncio.gather(process("-h"), process("wroker"), process("--version"))

    assert short.out.startswith("Usage: ")
    assert misspelt.code == 2
    assert "worker" in misspelt.err
    assert version.out.startswith("taurine 0.")


async def test_a_reader_that_goes_away_is_no_error(app: Taurine, variables: dict[str, str], tmp_path: Path) -> None:
    """`taurine jobs --json | head`: it ends at once and says nothing."""

    @app.job("note.write", queue="notes")
    async def write(text: str) -> None: ...

    await write.enqueue_many(["x" * 2000] * 200)
    piped = f"{sys.executable} -m taurine jobs --limit 200 --json | head -c 1; echo $PIPESTATUS"
    program = await asyncio.create_subprocess_exec(
        *("bash", "-c", piped),
        cwd=tmp_path,
        env=variables
        | {"PYTHONUNBUFFERED": ""},  # without its buffer, Python takes a write that was cut short for a whole one
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )

    assert await program.communicate() == (b"{141\n", b"")


async def test_completion_knows_commands_options_and_job_types(
    process: Callable[..., Any], here: Callable[..., Any]
) -> None:
    script = await process(_TAURINE_COMPLETE="source_bash")

    async def completed(words: str) -> set[str]:
        ended = await here(
            _TAURINE_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
        )
        return set(ended.out.split())

    commands, options, types, misspelt = await asyncio.gather(
        completed("taurine wo"),
        completed("taurine jobs --st"),
        completed("taurine enqueue i"),
        completed("taurine enqueue z"),
    )

    assert "complete" in script.out
    assert (commands, options, types, misspelt) == ({"worker", "workers"}, {"--status"}, {"invite.send"}, set())


async def test_json_is_one_value_on_stdout(process: Callable[..., Any], here: Callable[..., Any], app: Taurine) -> None:
    """Every command that ends by itself; one of them as its own process, where nothing else stands between it and
    stdout.
    """
    await app.migrate()
    ended = {"doctor": await process("doctor", "--json")}
    for words in ("jobs", "queues", "dead", "workers", "top --once", "verify", "migrate", "bench --jobs 5"):
        ended[words] = await here(*words.split(), "--json")

    for words, one in ended.items():
        json.loads(one.out)
        assert one.code == 0, (words, one.err)


async def test_a_warning_of_ours_is_a_line(taurine: Callable[..., Any]) -> None:
    warned = await taurine("jobs", TAURINE_REDISURL="x")

    assert "taurine: the variable TAURINE_REDISURL is not read; did you mean TAURINE_REDIS_URL?" in warned.err
    assert ".py" not in warned.err


async def test_the_demo_has_its_own_help(taurine: Callable[..., Any]) -> None:
    shown = await taurine("demo", "--help")

    assert shown.code == 0
    assert "--limit" in shown.out or "--serve" in shown.out


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("30s", 30),
        ("5m", 300),
        ("5min", 300),
        ("2h30m", 9000),
        ("1d", 86_400),
        ("250ms", 0.25),
        ("1 h 1 s", 3601),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert read_seconds(text, "--delay") == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "5x", "5m!", "1e3", "٣"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(InvalidOption, match="--delay"):
        read_seconds(text, "--delay")


def test_queues_with_slots_of_their_own() -> None:
    assert read_queues([], None) == (None, None)
    assert read_queues([], "io") == (None, "io")
    assert read_queues(["mail", "files=cpu"], "7") == (["mail", "files"], {"mail": 7, "files": "cpu"})
    assert read_queues(["mail"], None) == (["mail"], None)


def test_ages() -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)

    assert age(now - timedelta(hours=50), now) == "2 d 2 h"
    assert age(now + timedelta(hours=50), now) == "0.0 s", "a clock may be ahead"
    assert [seconds_text(s) for s in (0.04, 59.6, 119, 121, 3600, 3700)] == [
        "0.0 s",
        "60 s",
        "119 s",
        "2 min",
        "1 h",
        "1 h 1 min",
    ]
    assert [short_text(s) for s in (0.0035, 0.4, 1.5, 121)] == ["4 ms", "400 ms", "1.5 s", "2 min"]
