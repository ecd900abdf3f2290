"""What a queue holds as text for Prometheus (exposition format 0.0.4), under the names that BullMQ's own exporter uses.

Written by hand: an engine without records should not need a library for three families. `/metrics` of an application,
which has far more, uses one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from taurine.errors import InvalidOption
from taurine.queue.states import JobState

__all__ = ["exposition"]

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_OWN = ("queue", "state")


def exposition(
    queue: str, counts: Mapping[JobState, int], finished: Mapping[str, int], labels: Mapping[str, str]
) -> str:
    """The text.

    finished: how many jobs have completed and failed in all. labels: go with each line. Raises InvalidOption for a
    label that cannot be one.
    """
    for label in labels:
        if not _LABEL.fullmatch(label) or label.startswith("__") or label in _OWN:
            raise InvalidOption(
                f"expected the name of a label to be letters, digits and _, and none of {', '.join(_OWN)}; got {label!r:.80}"
            )
    lines = ["# HELP bullmq_job_count Number of jobs in the queue by state", "# TYPE bullmq_job_count gauge"]
    lines += [
        _line("bullmq_job_count", {"queue": queue, "state": state, **labels}, number)
        for state, number in counts.items()
    ]
    for kind, number in finished.items():
        name = f"bullmq_job_{kind}_total"
        lines += [f"# HELP {name} Total number of {kind} jobs", f"# TYPE {name} counter"]
        lines.append(_line(name, {"queue": queue, **labels}, number))
    return "\n".join(lines) + "\n"


def _line(name: str, labels: Mapping[str, str], number: int) -> str:
    shown = ", ".join(f'{label}="{_escaped(str(value))}"' for label, value in labels.items())
    return f"{name}{{{shown}}} {number}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
