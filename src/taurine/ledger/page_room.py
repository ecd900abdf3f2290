"""How much one page may hold: payloads may be large, and a page is in memory as a whole, here and at whoever asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

__all__ = ["AT_ONCE", "MOST_TEXT", "fill"]

MOST_TEXT = 4 << 20
"""Characters of a page's payloads, results and other JSON together. A page ends before, after its first row at the
soonest, and says where the next one begins.
"""

AT_ONCE = 64
"""Rows that are read before it is looked how much they hold."""

RowT = TypeVar("RowT")


def fill(rows: Iterator[RowT], limit: int, size: Callable[[RowT], int]) -> tuple[list[RowT], bool]:
    """As many rows as a page may have, and whether there are more. size: characters of a row."""
    page: list[RowT] = []
    room = MOST_TEXT
    for row in rows:
        room -= size(row)
        if len(page) == limit or (page and room < 0):
            return page, True
        page.append(row)
    return page, False
