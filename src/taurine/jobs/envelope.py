"""What travels with a job beside its payload, in the member of the stored options that other consumers pass over.

    g  generation, when it is not 0          a  attempts made by earlier generations or before Redis lost the job, when not 0
    t  tenant                                r  this job's own retry policy
    s  scheduled start, ms                   u  who asked for it
    l  handed over late, so perhaps not      e  not to start after, ms
       for the first time

The trace context is none of them: it has its own member, BullMQ's `tm`, where others find it too.
A job without the member was put into the queue by somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from taurine.errors import InvalidOption
from taurine.queue.stored_options import APPLICATION_MEMBER
from taurine.queue.wire import encode_json
from taurine.retry import Backoff, Custom, Exponential, Fixed, Retry

__all__ = ["Envelope", "retry_from_json", "retry_to_json"]


@dataclass(slots=True)
class Envelope:
    """One job's companion data. Times in ms since the epoch."""

    generation: int = 0
    attempts: int = 0
    tenant: str | None = None
    scheduled_for: int | None = None
    expires_at: int | None = None
    created_by: str | None = None
    retry: dict[str, Any] | None = None
    late: bool = False
    """True for a job that was not handed over in the call that accepted it. Another relay may have been first, and the
    job may have ended since: its
    delivery asks the ledger."""

    def encode(self) -> str:
        """As it is stored, JSON."""
        members = {short: value for short, name in _BY_SHORT.items() if (value := getattr(self, name))}
        return encode_json(members, "what travels with the job") if members else "{}"

    @classmethod
    def of(cls, stored_options: dict[str, Any]) -> Envelope | None:
        """The envelope in a job's stored options; None for a job without one, or with one that is broken."""
        members: Any = stored_options.get(APPLICATION_MEMBER)
        if not isinstance(members, dict):
            return None
        members = cast("dict[str, Any]", members)
        if not members:
            return cls()
        values = {name: members[short] for short, name in _BY_SHORT.items() if short in members}
        if not all(_is_sound(name, value) for name, value in values.items()):
            return None
        return cls(**values)


def _is_sound(name: str, value: Any) -> bool:
    """Whether a member is one that `encode` could have written: anybody may write to the queue's server."""
    if type(value) is not _TYPES[name]:  # a bool is an int for isinstance
        return False
    if isinstance(value, int):
        return 0 <= value <= _MOST.get(name, _MOST_MS)
    return not isinstance(value, str) or (value.isprintable() and len(value) <= _MOST_CHARACTERS)


_MOST_MS = 1 << 53
_MOST_CHARACTERS = 1024
_MOST: dict[str, int] = {"generation": (1 << 31) - 1, "attempts": (1 << 31) - 1}
"""Generations are the upper half of a fence of 63 bits."""


_TYPES: dict[str, type] = {
    "generation": int,
    "attempts": int,
    "tenant": str,
    "scheduled_for": int,
    "expires_at": int,
    "created_by": str,
    "retry": dict,
    "late": bool,
}
_NAMES = tuple(_TYPES)
_SHORT = ("g", "a", "t", "s", "e", "u", "r", "l")
_BY_SHORT = dict(zip(_SHORT, _NAMES, strict=True))


def retry_to_json(retry: Retry) -> dict[str, Any]:
    """A retry policy that is one job's own, to travel with it.

    Raises InvalidOption for what cannot: functions and rules stay with the job type.
    """
    if retry.rules:
        raise InvalidOption(
            "rules of a Retry are functions and classes, which do not travel; declare them with the job type"
        )
    return {"n": retry.attempts, **_backoff_to_json(retry.backoff)}


def _backoff_to_json(backoff: Backoff | None) -> dict[str, Any]:
    if backoff is None:
        return {}
    if isinstance(backoff, Custom):
        raise InvalidOption("a Custom back-off is a function, which does not travel; declare it with the job type")
    if isinstance(backoff, Fixed):
        return {"fixed": backoff.delay, "jitter": backoff.jitter}
    return {"base": backoff.base, "factor": backoff.factor, "cap": backoff.cap, "jitter": backoff.jitter}


def retry_from_json(members: dict[str, Any], declared: Retry) -> Retry:
    """The policy that travelled, with the rules of the declared one; the declared one for text that makes no sense."""
    try:
        backoff: Backoff | None = None
        if "fixed" in members:
            backoff = Fixed(members["fixed"], members["jitter"])
        elif "base" in members:
            backoff = Exponential(members["base"], members["factor"], members["cap"], members["jitter"])
        return Retry(attempts=members["n"], backoff=backoff, rules=declared.rules)
    except (InvalidOption, KeyError, TypeError):
        return declared
