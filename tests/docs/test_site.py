"""The documentation site: every page is in its navigation, every link leads somewhere, every command is one, every
public name is in the reference.

`make docs` builds it, strictly; these are what it is built from, and need no builder.
"""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

import taurine
import taurine.errors
import taurine.http
import taurine.pipeline
import taurine.queue
import taurine.testing
from docs.consoles import steps
from embedded.processes import SOURCE
from taurine.cli.program import program

ROOT = SOURCE.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
SITE: dict[str, Any] = runpy.run_path(str(ROOT / "tools" / "docs.py"))
PROJECT = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]


def navigation(entry: Any) -> Iterator[str]:
    """The pages below an entry of the navigation."""
    if isinstance(entry, str):
        yield entry
        return
    for below in entry if isinstance(entry, list) else entry.values():
        yield from navigation(below)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All pages as the builder gets them."""
    pages = tmp_path_factory.mktemp("pages")
    SITE["lay_out"](pages)
    return pages


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def test_every_page_is_in_the_navigation_once(laid_out: Path) -> None:
    listed = list(navigation(PROJECT["nav"]))

    assert len(listed) == len(set(listed))
    assert {name for name in listed if not name.startswith("repository/")} == {name_of(page) for page in PAGES}
    assert [name for name in listed if not (laid_out / name).is_file()] == []


LINK = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^(`{3,})\w*\n.*?^\1$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The names of its headings: those that are said, and those that are made of them."""
    headings = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    given = set(re.findall(r"\{ #(\S+) \}$", text, re.MULTILINE))
    return given | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere_once_the_pages_are_laid_out(laid_out: Path) -> None:
    missing: list[str] = []
    for page in laid_out.rglob("*.md"):
        for link in LINK.findall(without_code(page.read_text("utf-8"))):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            if not target.is_file() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
                missing.append(f"{page.relative_to(laid_out)}: {link}")

    assert missing == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent != DOCS], ids=name_of)
def test_links_lead_somewhere_in_the_repository_too(page: Path) -> None:
    """Where the pages are read as they are. Those of docs itself are looked at beside the README."""
    links = [link.partition("#")[0] for link in LINK.findall(without_code(page.read_text("utf-8")))]

    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_a_test_that_a_page_names_is_a_heading_on_the_site(laid_out: Path) -> None:
    text = (laid_out / "guarantees.md").read_text("utf-8")
    path, anchor = re.findall(r"\]\((repository/tests/faults/test_outbox\.py\.md)#(\w+)\)", text)[0]
    page = (laid_out / path).read_text("utf-8")

    assert f"{{ #{anchor} }}" in page
    assert f"def {anchor}(" in page


def test_a_link_into_nothing_is_an_error(tmp_path: Path) -> None:
    page = DOCS / "nothing.md"
    with pytest.raises(FileNotFoundError, match=r"docs/nothing\.md links \.\./gone\.py"):
        SITE["lay_out"].__globals__["_target"](page, "../gone.py#test_x")


def test_no_page_may_ask_another_host(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text(
        '<link rel="canonical" href="https://example.com/"><a href="https://example.com/">x</a><script src="a.js"></script>',
        "utf-8",
    )
    (tmp_path / "bad.html").write_text('<script async src="https://cdn.example.com/a.js"></script>', "utf-8")

    assert SITE["asks_outside"](tmp_path) == ["bad.html: https://cdn.example.com/a.js"]


def test_no_font_and_no_page_of_others_is_asked_for() -> None:
    assert PROJECT["theme"]["font"] is False
    assert not {"repo_url", "site_url", "extra_javascript", "extra_css"} & PROJECT.keys()


COMMANDS = {"taurine", "python", "export"}
"""What console blocks may begin with."""


def families() -> dict[str, set[str]]:
    """Each command of `taurine`, and those below it."""
    group = typer.main.get_command(program)
    assert isinstance(group, TyperGroup)
    return {
        name: set(command.commands) if isinstance(command, TyperGroup) else set()
        for name, command in group.commands.items()
    }


def spoken(text: str) -> list[list[str]]:
    """The commands of a page, in console blocks and in its sentences, word by word."""
    sentences = re.findall(r"`(taurine [^`\n]+)`", without_code(text))
    return [shlex.split(command) for command in [step.command for step in steps(text)] + sentences]


FAMILIES = families()


def names_of(words: list[str]) -> list[str]:
    """The command's own names, without the options before them and without what it is given."""
    rest = [word for word in words if word != "…"]
    while rest and rest[0].startswith("--"):
        rest = rest[2 if rest[0] == "--app" else 1 :]
    below = FAMILIES.get(rest[0]) if rest else None
    return rest[: 2 if below and re.fullmatch(r"[a-z]+", " ".join(rest[1:2])) else 1]


def options_of(names: list[str]) -> set[str]:
    """The options that may be said with a command, those of `taurine` itself included."""
    command = typer.main.get_command(program)
    found = {"--help", *(option for one in command.params for option in one.opts)}
    for name in names:
        assert isinstance(command, TyperGroup)
        command = command.commands[name]
        found |= {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_real(page: Path) -> None:
    for words in spoken(page.read_text("utf-8")):
        assert words[0] in COMMANDS
        if words[0] == "taurine" and (names := names_of(words[1:])):
            assert names[0] in FAMILIES, f"there is no `taurine {names[0]}`"
            assert set(names[1:]) <= FAMILIES[names[0]], f"there is no `taurine {' '.join(names)}`"
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options - options_of(names) == set(), f"`taurine {' '.join(names)}` has no such option"


def targets_of_make() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_targets_of_make_are_real(page: Path) -> None:
    assert set(re.findall(r"`make ([a-z]+)", page.read_text("utf-8"))) - targets_of_make() == set()


REFERENCE = {
    name: re.findall(r"^::: (\S+)$", (DOCS / "reference" / f"{name}.md").read_text("utf-8"), re.MULTILINE)
    for name in ("taurine", "errors", "queue", "pipeline", "testing", "telemetry", "http")
}


@pytest.mark.parametrize(
    "module", [taurine, taurine.queue, taurine.pipeline, taurine.testing, taurine.errors, taurine.http]
)
def test_every_public_name_is_in_the_reference_once(module: Any) -> None:
    shown = [name.rpartition(".")[2] for names in REFERENCE.values() for name in names]
    of_page = {
        taurine: ("taurine", "errors", "pipeline", "telemetry"),
        taurine.queue: ("queue",),
        taurine.pipeline: ("pipeline",),
        taurine.testing: ("testing",),
        taurine.errors: ("errors",),
        taurine.http: ("http",),
    }[module]
    names = {name.rpartition(".")[2] for page in of_page for name in REFERENCE[page]}

    assert set(module.__all__) - names - {"__version__", "did_you_mean"} == set()
    assert len(shown) == len(set(shown))


@pytest.mark.parametrize("name", [name for names in REFERENCE.values() for name in names])
def test_what_the_reference_shows_is_there(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    if name in ("taurine.queue.events", "taurine.testing.fixtures"):
        assert (SOURCE / name.replace(".", "/")).with_suffix(".py").is_file()
        return
    assert attribute in import_module(module).__all__


def test_the_tree_of_errors_is_that_of_the_docstring() -> None:
    (tree,) = re.findall(r"^```text\n(.*?)^```$", (DOCS / "reference" / "errors.md").read_text("utf-8"), re.M | re.S)

    assert taurine.errors.__doc__ is not None
    assert tree in taurine.errors.__doc__
