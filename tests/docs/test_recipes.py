"""docs/recipes: the files of each page are laid out as it says and its programs run; what stops a worker is what a
worker needs.
"""

from __future__ import annotations

import os
import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from docs.consoles import differences, environment_in, run, steps
from docs.pages import blocks, promised
from docs.programs import run_program
from embedded.processes import SOURCE
from taurine.cli.reading import read_seconds

RECIPES = SOURCE.parent / "docs" / "recipes"
DEPLOYING = (RECIPES / "deploying.md").read_text("utf-8")
PROGRAMS = {
    "script.md": ("archive.py", "archive_here.py"),
    "fastapi.md": ("try_it.py", "try_mounted.py"),
    "flask.md": ("try_it.py", "try_served.py"),
    "django.md": ("try_it.py", "try_mounted.py"),
}
"""What is started of each page; it needs the others."""


def files(page: str) -> dict[str, str]:
    """The page's files, by the names in their first lines."""
    text = (RECIPES / page).read_text("utf-8")
    found = {block.partition("\n")[0].removeprefix("# "): block for block in blocks(text)}
    assert all(re.fullmatch(r"\w+\.py", name) for name in found), "each block names its file in its first line"
    return found


@pytest.mark.parametrize(("page", "programs"), PROGRAMS.items(), ids=list(PROGRAMS))
def test_a_recipe_runs_and_prints_what_it_says(
    page: str, programs: tuple[str, ...], settings: dict[str, str], tmp_path: Path
) -> None:
    for name, code in files(page).items():
        (tmp_path / name).write_text(code, "utf-8")
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))

    for program in programs:
        ended = run_program(program, folder=tmp_path, environment={"PATH": os.environ["PATH"]} | settings, path=path)
        assert ended.stdout.splitlines() == promised(files(page)[program])


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_code_can_be_read_by_python(page: str) -> None:
    for name, code in files(page).items():
        compile(code, name, "exec")


def test_every_page_is_run() -> None:
    assert {path.name for path in RECIPES.glob("*.md")} == {*PROGRAMS, "deploying.md"}


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DEPLOYING, re.MULTILINE | re.DOTALL)


def grace() -> float:
    """Seconds that the workers of the page give their jobs; the same everywhere."""
    (words,) = set(re.findall(r"--grace\"?,? \"?(\w+)", DEPLOYING))
    return read_seconds(words, "--grace")


def test_systemd_tells_the_main_process_alone_and_waits_longer_than_the_grace() -> None:
    unit = ConfigParser()
    unit.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - its documented use
    unit.read_string(fenced("ini")[0])
    service = unit["Service"]

    assert (service["KillSignal"], service["KillMode"]) == ("SIGTERM", "mixed")
    assert float(service["TimeoutStopSec"]) > grace()
    assert service["Restart"] == "always"


def test_a_container_is_told_by_a_signal_and_waited_for() -> None:
    (dockerfile,) = fenced("dockerfile")
    compose, _ = fenced("yaml")

    assert "STOPSIGNAL SIGTERM" in dockerfile
    assert re.search(r'^CMD \["taurine", "worker"', dockerfile, re.MULTILINE), "a shell would keep the signal"
    (waits,) = re.findall(r"stop_grace_period: (\w+)", compose)
    assert read_seconds(waits, "stop_grace_period") > grace()


def test_kubernetes_waits_longer_than_the_grace() -> None:
    _, manifest = fenced("yaml")
    (waits,) = re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest)

    assert float(waits) > grace()


def test_the_doctor_says_what_the_page_says(settings: dict[str, str], tmp_path: Path) -> None:
    for step in steps(DEPLOYING):
        shown = run(step, tmp_path, environment_in(tmp_path) | settings)
        assert not (difference := differences(step, shown)), difference
