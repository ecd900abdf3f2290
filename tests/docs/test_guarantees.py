"""docs/guarantees.md: every promise is made once, and names tests that are there."""

from __future__ import annotations

import re

import pytest

from docs.figures import PAGE, linked_tests, rows_of
from embedded.processes import SOURCE

TEXT = PAGE.read_text("utf-8")
README = (SOURCE.parent / "README.md").read_text("utf-8")
PROMISES = [f"P{number}" for number in range(1, 10)]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def row_of(promise: str) -> list[str]:
    """The cells of its row: promise, limit, tests."""
    rows = [line for line in TEXT.splitlines() if line.startswith(f"| **{promise} ")]
    assert len(rows) == 1, f"{promise} has {len(rows)} rows"
    return cells(rows[0])


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_says_where_it_ends_and_names_its_tests(promise: str) -> None:
    _, limit, tests = row_of(promise)

    assert limit
    assert re.findall(r"\]\(\.\./tests/[^)]+\)", tests), f"nothing tries to break {promise}"


@pytest.mark.parametrize("promise", PROMISES)
def test_the_readme_makes_the_same_promise(promise: str) -> None:
    found = re.findall(rf"^- \*\*({promise} .+?)\*\*.*\]\(tests/", README, re.MULTILINE)

    assert len(found) == 1, f"{promise} is in the README {len(found)} times with a test"


def test_the_figures_are_of_tests_that_are_linked() -> None:
    linked = linked_tests(TEXT)
    shown = re.findall(r"^\| (P\d) \| `(test_\w+)[^`]*` \| .+ \|$", TEXT, re.MULTILINE)

    assert shown, "no figures"
    assert [(promise, test) for promise, test in shown if test not in linked[promise]] == []


def test_a_table_is_made_of_what_tests_print() -> None:
    output = "=== figures ===\ntest_a: lost 0/7\ntest_b[sqlite]: 1 s | 2 s\ntest_c: nobody's\n"

    assert rows_of(output, {"P1": {"test_b"}, "P2": {"test_a"}}) == [
        "| P1 | `test_b[sqlite]` | 1 s / 2 s |",
        "| P2 | `test_a` | lost 0/7 |",
    ]
