"""Builds the documentation site from docs/ into build/site: `make docs`.

Pages name files of the repository: the test that tries to break a promise, the source that keeps it. A site of docs/
alone would not have them. So the pages are laid out anew in build/pages, where each file that is linked is a page too,
with its tests and classes as headings; the site is built from there, strictly.
A page that would make the reader's browser ask another host is an error.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ROOT", "asks_outside", "lay_out", "place_of"]

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "build" / "site"
REPOSITORY = Path("repository")
"""The folder of the pages that are files of the repository."""

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s]+)(?=\))")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".lua": "lua", ".mjs": "javascript", ".toml": "toml"}
# A canonical address or an ordinary link is not fetched; these are.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|source|link(?![^>]*canonical))\b[^>]*?\s(?:src|href)=\"?((?:https?:)?//[^\"\s>]+)"
)


def place_of(file: Path) -> Path:
    """Where a file of the checkout, or a folder, stands among the pages."""
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS)
    place = REPOSITORY / file.relative_to(ROOT)
    if file.is_dir():
        return place / "index.md"
    return place if file.suffix == ".md" else place.with_name(f"{file.name}.md")


def lay_out(pages: Path) -> None:
    """Write all pages below `pages`: those of docs/, and every file of the repository that a page links, and so on.

    Raises FileNotFoundError for a link to a file that is not there, with the page that has it.
    """
    waiting = sorted(path for path in DOCS.rglob("*") if path.is_file())
    seen = set(waiting)
    while waiting:
        file = waiting.pop()
        page = pages / place_of(file)
        page.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix != ".md" and file.is_relative_to(DOCS):
            shutil.copyfile(file, page)
            continue
        page.write_text(_page(file), "utf-8")
        linked = set(_linked(file)) - seen
        seen |= linked
        waiting += sorted(linked)


def asks_outside(site: Path) -> list[str]:
    """Addresses of other hosts that a browser would fetch with a page, each with its page."""
    return [
        f"{page.relative_to(site)}: {address}"
        for page in sorted(site.rglob("*.html"))
        for address in _FETCHED.findall(page.read_text("utf-8"))
    ]


def _linked(file: Path) -> Iterator[Path]:
    """The files of the checkout that a page links."""
    if file.is_dir():
        yield from _entries(file)
    elif file.suffix == ".md":
        for text in _FENCED.split(file.read_text("utf-8"))[::2]:
            yield from (_target(file, link) for link in _LINK.findall(text))


def _target(file: Path, link: str) -> Path:
    target = (file.parent / link.partition("#")[0]).resolve()
    if not target.exists():
        raise FileNotFoundError(f"{file.relative_to(ROOT)} links {link}, which is not there")
    return target


def _page(file: Path) -> str:
    if file.is_dir():
        return _folder_page(file)
    text = file.read_text("utf-8")
    if file.suffix == ".md":
        parts = _FENCED.split(text)
        parts[::2] = [_LINK.sub(lambda found: _moved(file, found[1]), part) for part in parts[::2]]
        return "".join(parts)
    return _source_page(file, text)


def _moved(file: Path, link: str) -> str:
    """The link as it must be among the pages."""
    anchor = link.partition("#")[1:]
    here = place_of(file).parent
    return Path(os.path.relpath(place_of(_target(file, link)), here)).as_posix() + "".join(anchor)


def _folder_page(folder: Path) -> str:
    lines = [f"- [{entry.name}]({entry.name}.md)" for entry in _entries(folder)]
    return f"{_head(folder)}\n\n" + "\n".join(lines) + "\n"


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.suffix in _LANGUAGES)


def _source_page(file: Path, text: str) -> str:
    blocks = _parts(text) if file.suffix == ".py" else [("", text)]
    written = [_head(file)]
    for name, code in blocks:
        if name:
            written.append(f"## `{name}` {{ #{name} }}")
        written.append(f"``````{_LANGUAGES.get(file.suffix, 'text')}\n{code.strip(chr(10))}\n``````")
    return "\n\n".join(written) + "\n"


def _head(file: Path) -> str:
    # The search is for what is written about Taurine; its sources would bury that.
    return f"---\nsearch:\n  exclude: true\n---\n\n# {file.relative_to(ROOT).as_posix()}"


def _parts(text: str) -> list[tuple[str, str]]:
    """A module cut before each function and class of its top level, with their names; the first part has none."""
    lines = text.splitlines()
    cuts: list[tuple[str, int]] = [("", 0)]
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            cuts.append((node.name, first - 1))
    ends = [line for _, line in cuts[1:]] + [len(lines)]
    return [(name, "\n".join(lines[start:end])) for (name, start), end in zip(cuts, ends, strict=True)]


def main() -> int:
    """Lay out the pages, build the site, look it over; returns the exit code."""
    for folder in (PAGES, SITE):
        shutil.rmtree(folder, ignore_errors=True)
    lay_out(PAGES)
    built = subprocess.run([sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=ROOT, check=False)
    if built.returncode:
        return built.returncode
    outside = asks_outside(SITE)
    for line in outside:
        sys.stderr.write(f"{line} is fetched from another host\n")
    return 1 if outside else 0


if __name__ == "__main__":
    sys.exit(main())
