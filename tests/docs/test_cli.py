"""docs/cli.md: its commands are run as they stand there and print what follows them, and its lists are those of the
program.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import taurine.cli
from cli.in_process import ended_here
from docs.consoles import differences, environment_in, run, steps
from docs.pages import blocks
from embedded.processes import SOURCE

TEXT = (SOURCE.parent / "docs" / "cli.md").read_text("utf-8")
NOT_ENDING = ("taurine dev",)
"""Commands that go on; other tests have them."""


@pytest.mark.timeout(300)  # thirty commands, one after the other
def test_the_commands_print_what_the_page_says(settings: dict[str, str], tmp_path: Path) -> None:
    (program,) = blocks(TEXT)
    (tmp_path / "shop.py").write_text(program, "utf-8")
    terminal = environment_in(tmp_path) | settings | {"TAURINE_APP": "shop:app"}

    for step in (step for step in steps(TEXT) if step.command not in NOT_ENDING):
        assert not (difference := differences(step, run(step, tmp_path, terminal))), difference


def test_no_option_is_on_the_page_that_is_not_there() -> None:
    commands = [line.split()[0] for line in helped().partition("Commands:\n")[2].partition("\n\n")[0].splitlines()]
    families = [
        "dead list",
        "dead show",
        "dead redrive",
        "dead discard",
        "queues pause",
        "queues drain",
        "queues clean",
    ]
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
    return ended_here([*words, "--help"], "", {"COLUMNS": "80"}, Path(__file__).parent).out


def test_the_list_of_commands_is_that_of_the_help() -> None:
    listed = helped().partition("Commands:\n")[2].partition("\n\n")[0]
    (of_page,) = re.findall(r"^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)

    assert of_page.splitlines() == [line.removeprefix("  ") for line in listed.splitlines()]
    assert "..." not in of_page, "cut off"


@pytest.mark.parametrize("command", ["worker", "enqueue", "jobs", "dead redrive", "retry", "cancel", "top", "workers"])
def test_every_option_is_on_the_page(command: str) -> None:
    options = set(re.findall(r"(--[a-z-]+)", helped(*command.split()))) - {"--help"}

    assert options - set(re.findall(r"(--[a-z-]+)", TEXT)) == set(), "not on the page"
