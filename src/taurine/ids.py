"""Job ids and queue names: which are accepted, and how they stand on the wire.

BullMQ's Node producers refuse some ids: `0`, whole numbers (they would meet its automatic ids), and colons other than
two.
Taurine accepts any printable id and stores such a one as `t%` followed by its percent-encoded text. The form is
injective, so an id reads back as it was given; an id that starts with `t%` itself is stored in that form too.

Names that would collide with a queue's own keys (`wait`, `repeat:…`) are refused: a job hash there would break the
queue.
"""

from __future__ import annotations

import re
import secrets
import uuid
from typing import NamedTuple
from urllib.parse import quote, unquote

from taurine.errors import InvalidName

__all__ = [
    "RunId",
    "check_prefix",
    "check_queue_name",
    "lookup_ids",
    "parent_wire_id",
    "public_id",
    "run_of",
    "sortable_id",
    "unique_id",
    "wire_id",
]

MAX_ID_BYTES = 1024
MAX_NAME_BYTES = 512

_ESCAPE = "t%"
_WHOLE_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_RESERVED = frozenset(
    {
        *("wait", "active", "prioritized", "delayed", "completed", "failed", "paused", "waiting-children"),
        *("marker", "stalled", "stalled-check", "limiter", "meta", "id", "pc", "events", "repeat", "metrics"),
        *("priority", "delay", "de", "dn"),
    }
)
_RESERVED_BEGINNINGS = ("repeat:", "de:", "dn:", "metrics:")
_RUN = re.compile(r"repeat:(.+):([0-9]{12,15})", re.ASCII)
"""The number is the time in ms; from 12 digits on, in 1973, no scheduler's own id can end in it."""


def _require_printable(text: object, what: str, limit: int) -> str:
    if not isinstance(text, str) or not text:
        raise InvalidName(f"expected {what} to be a non-empty string, got {text!r:.80}")
    if not text.isprintable():
        raise InvalidName(f"expected {what} to be printable text, got control characters")
    if len(text.encode()) > limit:
        raise InvalidName(f"expected {what} to be at most {limit} bytes, got {len(text.encode())}")
    return text


def check_queue_name(name: str) -> str:
    """`name`, if a queue may be called so.

    Raises InvalidName for an empty, unprintable or over-long name, or one with a colon.
    """
    _require_printable(name, "a queue name", MAX_NAME_BYTES)
    if ":" in name:
        raise InvalidName(f"expected a queue name without ':', got {name!r}; use '-' or '.' between its parts")
    return name


def check_prefix(prefix: str) -> str:
    """`prefix`, if keys may start with it. Raises InvalidName for an empty, unprintable or over-long one."""
    return _require_printable(prefix, "a key prefix", MAX_NAME_BYTES)


def _needs_escape(job_id: str) -> bool:
    if job_id.startswith((_ESCAPE, "0:")) or _WHOLE_NUMBER.fullmatch(job_id):
        return True
    return job_id.count(":") not in (0, 2)


def wire_id(job_id: str) -> str:
    """The id under which a new job is stored. Raises InvalidName for an unprintable, over-long or reserved id."""
    _require_printable(job_id, "a job id", MAX_ID_BYTES)
    if job_id in _RESERVED or job_id.startswith(_RESERVED_BEGINNINGS):
        raise InvalidName(f"the job id {job_id!r} is reserved for a key of the queue itself; put a word in front of it")
    return _ESCAPE + quote(job_id, safe=" /") if _needs_escape(job_id) else job_id


def public_id(stored: str) -> str:
    """The id as it was given, from the id as it is stored."""
    return unquote(stored[len(_ESCAPE) :]) if stored.startswith(_ESCAPE) else stored


def _is_storable(job_id: object) -> bool:
    if not isinstance(job_id, str):
        return False
    try:
        job_id.encode()
    except UnicodeEncodeError:
        return False
    return True


def lookup_ids(job_id: str) -> tuple[str, ...]:
    """The stored ids to try for a job that a caller names, best first.

    The second one finds jobs whose id this module would not give: automatic numbers, runs of schedulers, jobs of other
    producers.
    None for what no job can be stored under: a queue's own key, text that UTF-8 cannot hold, and what is no text.
    """
    if not _is_storable(job_id) or job_id in _RESERVED:
        return ()
    if _needs_escape(job_id) and not job_id.startswith("repeat:"):
        return (_ESCAPE + quote(job_id, safe=" /"), job_id)
    return (job_id,)


def parent_wire_id(job_id: str) -> str:
    """The stored id of the job that a child names as its parent.

    A whole number is taken for an automatic id, and a run of a scheduler for itself: both are stored as they are.
    """
    if _WHOLE_NUMBER.fullmatch(job_id) or job_id.startswith("repeat:"):
        return job_id
    return wire_id(job_id)


class RunId(NamedTuple):
    """What the id of a scheduler's run says: whose it is, and when it is due, ms since the epoch."""

    scheduler: str
    due_ms: int


def run_of(job_id: str) -> RunId | None:
    """What an id says that a scheduler gives its runs, `repeat:<scheduler>:<ms>`; None for any other id."""
    if not job_id.startswith("repeat:") or (match := _RUN.fullmatch(job_id)) is None:
        return None
    return RunId(match[1], int(match[2]))


def unique_id() -> str:
    """A new id that no other process makes: 32 hexadecimal digits."""
    return uuid.uuid4().hex


def sortable_id(now: float) -> str:
    """A new id that no other process makes, and that sorts by `now`, wall seconds: 12 hexadecimal digits of
    milliseconds, 20 of chance.

    The layout is that of a ULID (48 bits of time, 80 of randomness), in digits that need no table.
    """
    return f"{int(now * 1000):012x}{secrets.token_hex(10)}"
