"""The states of a job: each is a collection that holds its id.

    waiting ──────┐                    ┌──► completed
    prioritized ──┼──► active ─────────┼──► failed
    delayed ──────┘      ▲             ├──► delayed            run again later
                         │             ├──► waiting            run again now, or its worker was gone
                         │             └──► waiting-children ─► waiting
                         └── a job that was added with children starts in waiting-children

`unknown` is a job that stands in no collection: it is not stored, or its hash is an orphan.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, cast, get_args

from taurine.errors import InvalidOption, NotInState, StoreError, did_you_mean
from taurine.ids import public_id
from taurine.queue.store import QueueStore

__all__ = [
    "COLLECTIONS",
    "FINISHED",
    "LISTS",
    "STATES",
    "FinishedState",
    "JobState",
    "check_states",
    "find_state",
    "not_in_state",
]

JobState: TypeAlias = Literal["waiting", "prioritized", "delayed", "active", "waiting-children", "completed", "failed"]
FinishedState: TypeAlias = Literal["completed", "failed"]

STATES: tuple[JobState, ...] = get_args(JobState)
FINISHED: tuple[JobState, ...] = ("completed", "failed")

COLLECTIONS: dict[JobState, tuple[str, ...]] = {
    # BullMQ 5 kept the jobs of a paused queue in a list of their own; here they wait, as in BullMQ 6.
    "waiting": ("wait", "paused"),
    "prioritized": ("prioritized",),
    "delayed": ("delayed",),
    "active": ("active",),
    "waiting-children": ("waiting-children",),
    "completed": ("completed",),
    "failed": ("failed",),
}
"""The key suffixes of each state's collections."""

LISTS = frozenset(("wait", "paused", "active"))
"""Collections that are lists, newest first; the others are sorted sets."""

_STATE_OF: dict[str, JobState] = {
    collection: state for state, collections in COLLECTIONS.items() for collection in collections
}


async def find_state(store: QueueStore, *stored_ids: str) -> JobState | Literal["unknown"]:
    """The state of the first of these stored ids that stands anywhere.

    Atomic; O(active + waiting) for one that is in no sorted set.
    """
    collection: bytes | None = await store.run("state", *stored_ids) if stored_ids else None
    return "unknown" if collection is None else _STATE_OF[collection.decode()]


_NEXT_CALL: dict[str, str] = {
    "waiting": "it starts as soon as a worker is free",
    "prioritized": "it starts as soon as a worker is free",
    "delayed": "to run it now call job.promote()",
    "active": "it runs now; wait for its end with job.wait()",
    "waiting-children": "it goes on when its children have ended; see job.dependencies()",
    "completed": "to run it again call job.retry('completed')",
    "failed": "to run it again call job.retry()",
    "unknown": "it was moved or removed meanwhile; look for it with queue.get_job()",
}


async def not_in_state(store: QueueStore, stored_id: str, allowed: tuple[JobState, ...], change: str) -> NotInState:
    """The error for a job that is in none of the `allowed` states, and so cannot be changed: "promoted", for example.

    Names the state that the job is found in now, which may be a later one than the change has met.
    """
    try:
        found = await find_state(store, stored_id)
    except StoreError:
        found = "unknown"
    job_id, queue = public_id(stored_id), store.keys.name
    return NotInState(
        f"job {job_id!r} of queue {queue!r} cannot be {change}: expected it to be {' or '.join(allowed)}, found it {found}; {_NEXT_CALL[found]}",
        job_id=job_id,
        queue=queue,
        found=found,
        allowed=allowed,
    )


def check_states(
    states: JobState | Iterable[JobState] | None, allowed: tuple[JobState, ...] = STATES
) -> list[JobState]:
    """`states` as a list without repetitions; all of `allowed` for None. Raises InvalidOption for another word."""
    if states is None:
        return list(allowed)
    words = [states] if isinstance(states, str) else list(states)
    for word in words:
        if word not in allowed:
            near = did_you_mean(word, allowed) if isinstance(word, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise InvalidOption(f"expected a state of {', '.join(allowed)}, got {word!r:.40}{near}")
    return cast(list[JobState], list(dict.fromkeys(words)))
