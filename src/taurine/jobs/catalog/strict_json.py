"""JSON from outside, read by one rule: what is accepted is stored, and read again, as exactly what was sent.

Refused with PayloadError: NaN and infinities (`1e999` too), half surrogate pairs, null characters, a name that stands
twice in one object, numbers of thousands of digits, and nesting deeper than 200 levels. Whole numbers are exact at any
size below that. Text is UTF-8. Nothing in it is ever made into more than plain data.
"""

from __future__ import annotations

import gc
import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn

from pydantic_core import from_json

from taurine.errors import PayloadError

__all__ = ["NULL_CHARACTER", "decode_strictly"]

NULL_CHARACTER = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
"""In JSON text: an even number of backslashes in front of it are characters of their own."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_LONG = 64 << 10
"""Bytes."""

_DEEPEST = 200
"""Levels that the parser which reads payloads back goes down to."""


def decode_strictly(text: bytes, *, what: str = "the JSON") -> Any:
    """The value of JSON text.

    what: how errors call it. Raises PayloadError, which says what is wrong and where, and holds no value of it.
    """
    if text.count(b"[") + text.count(b"{") > _DEEPEST and _is_too_deep(text):
        raise PayloadError(f"{what} is nested deeper than {_DEEPEST} levels; send it flatter, or as text")
    if b"\\u0000" in text and NULL_CHARACTER.search(text):
        raise PayloadError(f"{what} holds a null character, which cannot be stored")
    try:
        with _collector_paused(len(text)):
            value = _decoder.decode(text.decode())
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise PayloadError(f"{what} cannot be read: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise PayloadError(f"{what} is not UTF-8, from byte {error.start} on") from None
    except UnicodeEncodeError:
        raise PayloadError(f"{what} holds one half of a surrogate pair, which is no character") from None
    except RecursionError:
        raise PayloadError(f"{what} is nested too deeply to be read") from None
    except PayloadError as error:
        raise PayloadError(f"{what} {error}") from None
    except ValueError:  # of `int`, which reads no more digits than a page has
        raise PayloadError(f"{what} holds a whole number of thousands of digits; send it as text") from None
    return value


@contextmanager
def _collector_paused(size: int) -> Generator[None]:
    """Decoding makes nothing that could be collected yet; a collector that looks again and again at hundreds of
    thousands of new lists takes four times as long as the decoding.
    """
    if size < _LONG or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _is_too_deep(text: bytes) -> bool:
    try:
        from_json(text)
    except ValueError as error:
        return "recursion limit" in str(error)
    return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise PayloadError(
            f"has the name {_twice(pairs)!r:.80} twice in one object; only one of the values could be kept"
        )
    return members


def _twice(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(name for name, _ in pairs if name in seen or seen.add(name))


def _finite(digits: str) -> float:
    number = float(digits)
    if number - number != 0:
        raise PayloadError("holds a number above the largest one that can be stored; send it as text")
    return number


def _refused(_: str) -> NoReturn:
    raise PayloadError("holds NaN or an infinity, which is no JSON number")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refused)
