"""What a command is told, out of the words of a shell: payloads, durations, queues with their slots."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taurine.errors import InvalidOption

__all__ = ["read_payload", "read_queues", "read_seconds", "read_slots"]

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_LONGEST = 100 * 366 * 86_400.0
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|m|h|d)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def read_seconds(text: str, name: str) -> float:
    """Seconds of a duration such as 90, 1.5, 30s, 5m, 2h30m, 1d; a hundred years at most.

    Raises InvalidOption, which names the option.
    """
    place, total = 0, 0.0
    if _NUMBER.fullmatch(text):
        place, total = len(text), float(text)
    while part := _PART.match(text, place):
        total += float(part[1]) * _UNITS[part[2].lower()]
        place = part.end()
    if not text or place != len(text):
        raise InvalidOption(
            f"expected {name} to be seconds, or a duration such as 30s, 5m, 2h30m or 1d, got {text!r:.40}"
        )
    if total > _LONGEST:
        raise InvalidOption(f"expected {name} to be a hundred years at most, got {text!r:.40}")
    return total


def read_payload(words: str | None, name: str = "the payload") -> Any:
    """The value of JSON text; of a file's for `@file`, and of standard input's for `-`. None is an empty object.

    Raises InvalidOption for a file that cannot be read, and for text that is no JSON: where it stops being any, without
    showing it.
    """
    if words is None:
        return {}
    text, source, quoted = words, name, '; put it into single quotes, with double quotes inside: \'{"name": "value"}\''
    if words == "-":
        text, source, quoted = sys.stdin.read(), f"{name} from standard input", ""
    elif words.startswith("@"):
        source, quoted = f"{name} in {words[1:]}", ""
        try:
            text = Path(words[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidOption(f"{source} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
    except RecursionError:
        where = "it is nested too deeply"
    except ValueError:
        where = "a number in it has too many digits"
    raise InvalidOption(f"{source} is not JSON: {where}{quoted}")  # outside of the handler, whose error holds the text


def read_slots(text: str, name: str) -> Any:
    """Jobs at once: a number, "io" or "cpu". Raises InvalidOption."""
    if text in ("io", "cpu"):
        return text
    if text.isascii() and text.isdigit() and int(text) >= 1:
        return int(text)
    raise InvalidOption(f"expected {name} to be a number from 1, 'io' or 'cpu', got {text!r:.40}")


def read_queues(words: Sequence[str], concurrency: str | None) -> tuple[list[str] | None, Any]:
    """The queues and slots of `--queue NAME`, `--queue NAME=SLOTS` and `--concurrency SLOTS`, as `Taurine.worker` takes
    them.
    """
    general = None if concurrency is None else read_slots(concurrency, "--concurrency")
    if not words:
        return None, general
    slots: dict[str, Any] = {}
    for word in words:
        name, equals, own = word.partition("=")
        slots[name] = read_slots(own, f"the slots of queue {name!r:.80}") if equals else general
    return list(slots), {name: own for name, own in slots.items() if own is not None} or None
