"""Durations for people."""

from __future__ import annotations

__all__ = ["seconds_text", "short_text"]


def seconds_text(seconds: float) -> str:
    """A duration in its largest unit or two: 0.4 s, 12 s, 3 min, 2 h 5 min, 4 d 3 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 60:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def short_text(seconds: float) -> str:
    """The same of a run or a wait, most of which are short: 4 ms, 1.5 s, and from then on as `seconds_text`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else seconds_text(seconds)
