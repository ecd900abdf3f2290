"""What a job's record says of it: its status, what may follow on each, and the short word for simple clients.

            ┌──────────────► cancelled ◄─────────────┐
            │                   ▲                    │
    queued ─┼─► running ──┬─────┼──► completed       │
     │ ▲    │     │ ▲     └─────┼──► failed          │
     │ │    │     ▼ │           │                    │
     │ │    └─ retrying ────────┘      waiting ──────┘
     │ │          │  ▲                  │  ▲
     │ └──────────┘  └──── running ◄────┘  └── running
     └─► expired

The four at the end are terminal; only a new generation of the job (a re-run, a redrive) leads out of them, back to
queued. A job that is finished within one group commit never shows `running`: its record goes from queued, retrying or
waiting to its end.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from taurine.errors import InvalidOption, did_you_mean

__all__ = [
    "OPEN",
    "STATUSES",
    "TERMINAL",
    "Phase",
    "Status",
    "allowed_from",
    "check_status",
    "phase_of",
]

Status: TypeAlias = Literal["queued", "running", "retrying", "waiting", "completed", "failed", "cancelled", "expired"]
Phase: TypeAlias = Literal["queued", "running", "completed", "failed"]

STATUSES: tuple[Status, ...] = get_args(Status)
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "expired"})
OPEN: tuple[Status, ...] = tuple(status for status in STATUSES if status not in TERMINAL)

_FOLLOWERS: dict[Status, frozenset[Status]] = {
    "queued": frozenset({"running", "retrying", "waiting", "completed", "failed", "cancelled", "expired"}),
    "running": frozenset({"running", "queued", "retrying", "waiting", "completed", "failed", "cancelled"}),
    "retrying": frozenset({"running", "queued", "retrying", "waiting", "completed", "failed", "cancelled"}),
    "waiting": frozenset({"running", "queued", "retrying", "waiting", "completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
    "expired": frozenset(),
}

_PHASES: dict[Status, Phase] = {
    "queued": "queued",
    "running": "running",
    "retrying": "queued",
    "waiting": "running",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}


def allowed_from(status: Status) -> tuple[Status, ...]:
    """The statuses from which a record may take `status` within one generation, in the order of `STATUSES`."""
    return tuple(before for before in STATUSES if status in _FOLLOWERS[before])


def phase_of(status: Status) -> Phase:
    """The one of four words that a simple client wants."""
    return _PHASES[status]


def check_status(status: str) -> Status:
    """`status`, if it is one. Raises InvalidOption with the near miss."""
    if status not in STATUSES:
        raise InvalidOption(
            f"expected a status of {', '.join(STATUSES)}, got {status!r:.40}{did_you_mean(status, STATUSES)}"
        )
    return status
