"""Which recorded jobs fit what a test expects, and the words for when none does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from taurine.errors import InvalidOption, did_you_mean
from taurine.testing.recorded import RecordedJob

__all__ = ["differences", "matches", "no_match"]

_FACTS = (
    *("id", "queue", "payload", "tenant", "priority", "tags", "metadata", "user", "source", "trace", "max_attempts"),
    *("idempotency_key", "delay", "scheduled_for", "expires_at", "created_at", "status"),
)
"""What a test may expect of a job beside the fields of its payload."""

_SHOWN = 3
"""Candidates that a message shows."""


class Difference(NamedTuple):
    """One thing that was expected of a job and does not hold: the name of the field or fact, what was expected of it,
    and what was found.
    """

    name: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.name}={_shown(self.found)} (expected {_shown(self.expected)})"


_ABSENT = object()


def matches(job: RecordedJob, expected: Mapping[str, Any]) -> bool:
    """True if everything that is expected holds."""
    return not differences(job, expected)


def differences(job: RecordedJob, expected: Mapping[str, Any]) -> list[Difference]:
    """What is expected of the job and does not hold: of its payload's fields, and of the facts for names that are no
    field.

    An expected function is called with what is found and says whether it will do. Raises InvalidOption for a name that
    is neither.
    """
    payload: Any = job.payload
    plain: Any = job.payload_json
    fields = cast("dict[str, Any]", plain) if isinstance(plain, dict) else {}
    found: list[Difference] = []
    for name, value in expected.items():
        if name in fields or name in _declared_fields(job):
            seen: tuple[Any, ...] = (getattr(payload, name, _ABSENT), fields.get(name, _ABSENT))
        elif name in _FACTS:
            seen = (payload, cast("Any", plain)) if name == "payload" else (getattr(job, name),)
        else:
            known = [*fields, *_FACTS]
            raise InvalidOption(
                f"{job.type}: expected a field of the payload or a fact of the job, got {name!r}{did_you_mean(name, known)}"
            )
        if not any(one is not _ABSENT and _fits(one, value) for one in seen):
            found.append(Difference(name, value, next((one for one in seen if one is not _ABSENT), None)))
    return found


def _declared_fields(job: RecordedJob) -> Sequence[str]:
    return job.job_type.payload.fields or ()


def _fits(found: Any, expected: Any) -> bool:
    if callable(expected) and not isinstance(expected, type):
        return bool(expected(found))
    return bool(found == expected)


def no_match(job_type: str, expected: Mapping[str, Any], jobs: Sequence[RecordedJob], times: int | None = None) -> str:
    """What to say when a test expected a job that is not there. jobs: all that were recorded."""
    wanted = f"a job {job_type!r}" if times is None else f"{times} × {job_type!r}"
    if expected:
        wanted += " with " + ", ".join(f"{name}={_shown(value)}" for name, value in expected.items())
    of_type = [job for job in jobs if job.type == job_type]
    if not of_type:
        others = Counter(job.type for job in jobs)
        listed = ", ".join(f"{name} × {count}" for name, count in others.most_common()) or "nothing"
        return f"expected {wanted}; no job of that type was enqueued. What was: {listed}"
    if not expected:
        return f"expected {wanted}; enqueued were {len(of_type)}: {', '.join(job.id for job in of_type[:_SHOWN])}"
    compared = sorted(((differences(job, expected), job) for job in of_type), key=lambda pair: len(pair[0]))
    fitting = sum(not unlike for unlike, _ in compared)
    lines = [
        f"expected {wanted}; {fitting or 'none'} of the {len(of_type)} enqueued {'fits' if fitting < 2 else 'fit'}. The nearest:"
    ]
    lines += [f"  {job.id}: {', '.join(map(str, unlike)) or 'fits'}" for unlike, job in compared[:_SHOWN]]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    if callable(value) and not isinstance(value, type):
        return f"<{getattr(value, '__name__', 'a function')}>"
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
