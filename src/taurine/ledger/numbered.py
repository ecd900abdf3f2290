"""Pages of rows that are in the order of a number of their own, such as attempts and actions."""

from __future__ import annotations

from taurine.errors import InvalidOption

__all__ = ["MOST_ROWS", "read_number", "require_limit"]

MOST_ROWS = 500
"""Rows of one page."""

_LARGEST_NUMBER = 1 << 62


def read_number(cursor: str) -> int:
    """The number of the last row of the page before. Raises InvalidOption for a cursor that no page gave."""
    if cursor.isascii() and cursor.isdigit() and len(cursor) <= 19 and (number := int(cursor)) < _LARGEST_NUMBER:
        return number
    raise InvalidOption("expected the cursor of an earlier page, got another text; leave it out for the first page")


def require_limit(limit: int) -> int:
    """`limit`, if a page may be so long. Raises InvalidOption."""
    if not 1 <= limit <= MOST_ROWS:
        raise InvalidOption(f"expected limit to be from 1 to {MOST_ROWS}, got {limit!r:.40}")
    return limit
