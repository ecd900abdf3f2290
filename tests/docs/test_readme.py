"""The README's programs are run as they stand there, and its links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from docs.programs import run_program
from embedded.processes import SOURCE, processes_on
from support.server import ValkeyServer

ROOT = SOURCE.parent
TEXT = (ROOT / "README.md").read_text("utf-8")
ADDRESS = "localhost", 6379
"""Where the README's server is; a test's own takes its place."""


class Block(NamedTuple):
    language: str
    text: str


def blocks() -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]


def block(language: str, mark: str) -> str:
    """The one block of this language that has `mark` in it."""
    found = [block.text for block in blocks() if block.language == language and mark in block.text]
    assert len(found) == 1, f"{len(found)} blocks of {language} with {mark!r}"
    return found[0]


def answer_to(program: str) -> str:
    """The block of text that follows the program."""
    texts = [block.text for block in blocks()]
    return texts[texts.index(program) + 1]


def test_the_first_program_runs_and_prints_what_the_readme_says(tmp_path: Path) -> None:
    program = block("python", "Taurine(")
    (tmp_path / "program.py").write_text(program, "utf-8")

    first, second = [run_program("-W", "error", "program.py", folder=tmp_path) for _ in range(2)]

    assert first.stdout == second.stdout == answer_to(program)
    assert re.fullmatch(r"job welcome:ada .* failed in attempt 1 of 3 and is tried again in .*\n", first.stderr)
    assert second.stderr == "", "nothing runs again"
    assert not processes_on(tmp_path), "processes outlive the program"


def test_python_and_node_share_a_queue_as_the_readme_says(
    server_factory: Callable[[], ValkeyServer], tmp_path: Path
) -> None:
    server = server_factory()
    host, port = urlsplit(server.url).hostname or "", urlsplit(server.url).port
    work = block("python", "redis://").replace("{}:{}".format(*ADDRESS), f"{host}:{port}")
    produce = block("javascript", "bullmq")
    moved = produce.replace(f'"{ADDRESS[0]}", port: {ADDRESS[1]}', f'"{host}", port: {port}')
    assert moved != produce
    (tmp_path / "work.py").write_text(work, "utf-8")
    (tmp_path / "produce.mjs").write_text(moved, "utf-8")
    (tmp_path / "node_modules").symlink_to(ROOT / "node_modules")

    worker = subprocess.Popen([sys.executable, "work.py"], cwd=tmp_path, env={"PYTHONPATH": str(SOURCE)})
    try:
        node = subprocess.run(
            [sys.executable, ROOT / "tools" / "node.py", "node", tmp_path / "produce.mjs"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        worker.terminate()
        assert worker.wait(30) == 0, "a signal stops the worker in good order"
    finally:
        worker.kill()
        worker.wait()

    assert node.returncode == 0, node.stderr
    assert node.stdout == answer_to(produce)


def test_every_block_of_code_is_run_by_a_test() -> None:
    run = [block("python", "Taurine("), block("python", "redis://"), block("javascript", "bullmq")]
    install = block("sh", "pip install")

    assert [entry.text for entry in blocks() if entry.language != "text" and entry.text not in (*run, install)] == []


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_links_between_the_documents_lead_somewhere(document: Path) -> None:
    text = document.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    missing = [link for link in links if not leads_somewhere(document, link)]

    assert missing == []


def leads_somewhere(document: Path, link: str) -> bool:
    path, _, anchor = link.partition("#")
    target = document.parent / path if path else document
    if not target.exists():
        return False
    return not anchor or anchor in (names_in(target) if target.suffix == ".py" else anchors(target))


def names_in(module: Path) -> set[str]:
    """The tests in a module: what documents name as its anchors."""
    return set(re.findall(r"^(?:async )?def (test_\w+)", module.read_text("utf-8"), re.MULTILINE))


def anchors(document: Path) -> set[str]:
    """The names that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
