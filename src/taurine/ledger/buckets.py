"""So many in a time, exactly: a bucket that one number stands for (the generic cell rate algorithm).

A bucket holds `most` and fills evenly, in `window_ms` from empty to full. What it holds follows from the moment at
which it is full again; that moment is kept in milliseconds times `most`, so that each one taken moves it by
`window_ms`, a whole number, and no fraction is lost.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MOST", "Bucket"]

MOST = 1_000_000
"""The most that a bucket holds: a time in ms, times this, stays below 2^63."""


class Bucket(NamedTuple):
    """A bucket of so many. most: 1 to MOST. window_ms: how long it takes to fill."""

    most: int
    window_ms: int

    def take(self, full_at: int | None, now: int) -> tuple[int, int]:
        """Take one; returns the new `full_at`, and 0.

        From an empty bucket nothing is taken: the old one, and the ms after which there is one again.

        full_at: what the call before returned; None for a full bucket. now: ms since the epoch.
        """
        present = now * self.most
        before = present if full_at is None else max(full_at, present)
        after = before + self.window_ms
        excess = after - present - self.window_ms * self.most
        if excess > 0:
            return before, -(-excess // self.most)
        return after, 0

    def full_ms(self, full_at: int) -> int:
        """When it is full again, ms since the epoch."""
        return -(-full_at // self.most)
