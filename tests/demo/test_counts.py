"""What the demo counts in a file, and which files it takes."""

from __future__ import annotations

from pathlib import Path

from taurine.demo.counts import Counts, count_file
from taurine.demo.library import source_files

SOURCE = """\
import os, sys
from pathlib import Path

class A:
    class B: ...
    async def m(self):
        import json
        def inner(): ...
"""


def test_everything_in_a_file_is_counted_however_deep(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(SOURCE)

    assert count_file(tmp_path / "a.py") == Counts(files=1, lines=8, functions=2, classes=2, imports=3)


def test_a_file_that_does_not_parse_counts_as_such(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def\nclass\n")
    (tmp_path / "zero.py").write_bytes(b"x = 1\0\n")

    assert count_file(tmp_path / "broken.py") == Counts(files=1, lines=2, not_parsed=1)
    assert count_file(tmp_path / "zero.py") == Counts(files=1, lines=1, not_parsed=1)


def test_totals_add_up() -> None:
    parts = [Counts(files=1, lines=3, functions=1), Counts(files=1, lines=4, not_parsed=1)]

    assert Counts.total(parts) == Counts(files=2, lines=7, functions=1, not_parsed=1)
    assert Counts.total([]) == Counts()


def test_installed_packages_are_not_the_standard_library(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.py", "b/data.txt", "site-packages/d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert source_files(tmp_path) == ["a.py", "b/c.py"]


def test_a_limit_spreads_over_all_files(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.py").touch()

    assert source_files(tmp_path, limit=5) == ["0.py", "2.py", "4.py", "6.py", "8.py"]
    assert len(source_files(tmp_path, limit=11)) == 10
