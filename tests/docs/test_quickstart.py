"""docs/quickstart.md: a newcomer who types what stands there, in two terminals and with no server, sees what it says."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.consoles import differences, environment_in, run, steps
from docs.pages import blocks, promised
from embedded.processes import SOURCE, processes_on
from support.eventually import eventually

TEXT = (SOURCE.parent / "docs" / "quickstart.md").read_text("utf-8")
SHOP, SIGN_UP = blocks(TEXT)
FIRST_TERMINAL, SETTING, *SECOND_TERMINAL = steps(TEXT)


@pytest.fixture
def terminal(tmp_path: Path) -> dict[str, str]:
    """The second one."""
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    (tmp_path / "sign_up.py").write_text(SIGN_UP, "utf-8")
    name, value = SETTING.command.removeprefix("export ").split("=")
    return environment_in(tmp_path) | {name: value}


@pytest.fixture
def first_terminal(terminal: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """`taurine … dev`, until Ctrl-C; gives what it shows."""
    shows = tmp_path / "first.txt"
    environment = {name: value for name, value in terminal.items() if name != "TAURINE_APP"}
    with shows.open("w") as output:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {FIRST_TERMINAL.command}"],
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield shows
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0, shows.read_text("utf-8")
        finally:
            process.kill()
            process.wait()


@pytest.mark.timeout(240)
async def test_what_a_newcomer_types_does_what_the_page_says(
    terminal: dict[str, str], first_terminal: Path, tmp_path: Path
) -> None:
    await eventually(lambda: "is ready" in first_terminal.read_text("utf-8"), 60, "the first terminal is not ready")

    for step in SECOND_TERMINAL:
        assert not (difference := differences(step, run(step, tmp_path, terminal))), difference


def test_a_program_says_on_the_page_what_it_prints() -> None:
    (shown,) = [step.says for step in SECOND_TERMINAL if step.command == "python sign_up.py"]

    assert promised(SIGN_UP) == shown


async def test_nothing_is_left_running(tmp_path: Path) -> None:
    """The page says that Ctrl-C ends all of it: also the private server."""
    (tmp_path / "shop.py").write_text(SHOP, "utf-8")
    terminal = environment_in(tmp_path) | {"TAURINE_APP": "shop:app"}
    run(steps("```console\n$ taurine worker --until-empty\n```\n")[0], tmp_path, terminal)

    await eventually(lambda: not processes_on(tmp_path), 20, "processes outlive the terminal")


def test_every_block_is_run() -> None:
    assert set(re.findall(r"^```(\w*)", TEXT, re.MULTILINE)) == {"sh", "python", "console", ""}
