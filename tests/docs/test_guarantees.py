"""docs/guarantees.md: every promise is made once, and names tests that are there."""

from __future__ import annotations

import re

import pytest

from embedded.processes import SOURCE

TEXT = (SOURCE.parent / "docs" / "guarantees.md").read_text("utf-8")
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


def test_figures_are_of_tests_that_are_linked() -> None:
    figures = TEXT.partition("<!-- figures -->")[2].partition("<!-- /figures -->")[0]
    rows = [cells(line) for line in figures.splitlines() if line.startswith("| P")]
    assert rows, "no figures"
    for promise, test, printed in rows:
        assert promise in PROMISES
        assert re.search(rf"#{test.strip('`')}\)", TEXT) or test.strip("`") in figures
        assert printed, f"{test} printed nothing"
