"""docs/cli.md: its commands are run as they stand there and print what follows them, and its lists are those of the program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import taurine.cli
from docs.pages import blocks
from embedded.processes import SOURCE

TEXT = (SOURCE.parent / "docs" / "cli.md").read_text("utf-8")
NOT_ENDING = ("taurine dev",)
"""Commands that go on; other tests have them."""


def steps() -> list[tuple[str, list[str]]]:
    """Each command of the page, with the lines that follow it."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line.removeprefix("$ "), []))
            else:
                found[-1][1].append(line)
    return [step for step in found if step[0] not in NOT_ENDING]


def shown(run: subprocess.CompletedProcess[str]) -> str:
    """What a terminal would show of it: both streams, which the page tells apart by nothing, and the exit code if it is not 0."""
    return run.stdout + (f"[{run.returncode}]\n" if run.returncode else "")


def pattern(lines: list[str]) -> str:
    """What the page says, where … stands for anything."""
    return "".join(re.escape(line).replace("…", "(?:.|\n)*") + "\n" for line in lines)


@pytest.mark.timeout(300)  # thirty commands, one after the other
def test_the_commands_print_what_the_page_says(redis_socket_url: str, prefix: str, tmp_path: Path) -> None:
    (program,) = blocks(TEXT)
    (tmp_path / "shop.py").write_text(program, "utf-8")
    environment = {
        "TAURINE_APP": "shop:app",
        "TAURINE_REDIS_URL": redis_socket_url,
        "TAURINE_PREFIX": prefix,
        "TAURINE_HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(SOURCE),
    }
    (tmp_path / "taurine").write_text(f'#!/bin/sh\nexec {sys.executable} -m taurine "$@"\n')
    (tmp_path / "taurine").chmod(0o755)
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    for command, lines in steps():
        run = subprocess.run(
            ["sh", "-c", command],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert re.fullmatch(pattern(lines), shown(run)), f"$ {command}\n{shown(run)}instead of\n{chr(10).join(lines)}"


def test_no_option_is_on_the_page_that_is_not_there() -> None:
    commands = [line.split()[0] for line in helped().partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    families = ["dead list", "dead show", "dead redrive", "dead discard", "queues pause", "queues drain"]
    every = {
        option for words in ["", *commands, *families] for option in re.findall(r"--[a-z-]+", helped(*words.split()))
    }

    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - every == set()


def test_every_block_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"python", "console", "text", ""}


def rows(text: str) -> list[str]:
    """The exit codes of a table."""
    return re.findall(r"^\| (\d+) \|", text, re.MULTILINE)


def test_the_exit_codes_are_those_of_the_program() -> None:
    assert taurine.cli.__doc__ is not None
    assert rows(TEXT) == rows(taurine.cli.__doc__)


def helped(*words: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "taurine", *words, "--help"],
        env={"PYTHONPATH": str(SOURCE), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def test_the_list_of_commands_is_that_of_the_help() -> None:
    listed = helped().partition("Commands:\n")[2].partition("\n\n")[0]
    (of_page,) = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

    assert of_page.splitlines() == [line.removeprefix("  ") for line in listed.splitlines()]
    assert "..." not in of_page, "cut off"


@pytest.mark.parametrize("command", ["worker", "enqueue", "jobs", "dead redrive"])
def test_every_option_is_on_the_page(command: str) -> None:
    options = set(re.findall(r"(--[a-z-]+)", helped(*command.split()))) - {"--help"}

    assert options - set(re.findall(r"(--[a-z-]+)", TEXT)) == set(), "not on the page"
