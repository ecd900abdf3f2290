"""Changing one stored job by its id, with or without having loaded it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from taurine.errors import NotInState
from taurine.queue.scripts import Argument
from taurine.queue.states import JobState, not_in_state
from taurine.queue.store import QueueStore
from taurine.queue.wire import encode_json, encode_text

__all__ = ["NO_FENCE", "Fence", "add_log", "change", "change_in_state", "update_progress"]


@dataclass(frozen=True, slots=True)
class Fence:
    """The lease under which a running job writes about itself.

    Once another worker has the job, such writes are refused.
    """

    token: str = ""
    attempts_started: int | str = ""

    def arguments(self) -> tuple[Argument, Argument]:
        return (self.token, self.attempts_started)


NO_FENCE = Fence()
"""For a caller who is not the job's worker."""


async def change(store: QueueStore, script: str, stored_id: str, *arguments: Argument) -> int:
    """Run a script about one job and return its code. Raises the typed error of a negative one."""
    code: int = await store.run(script, stored_id, *arguments)
    if code < 0:
        raise store.error(code, stored_id)
    return code


async def change_in_state(
    store: QueueStore, script: str, stored_id: str, *arguments: Argument, allowed: JobState, change_name: str
) -> None:
    """`change` of a job that must be in one state. Raises NotInState, which tells where the job is instead.

    change_name: what is done to the job, for the message: "promoted", for example.
    """
    try:
        await change(store, script, stored_id, *arguments)
    except NotInState:
        raise await not_in_state(store, stored_id, (allowed,), change_name) from None


async def update_progress(store: QueueStore, stored_id: str, value: Any, fence: Fence = NO_FENCE) -> None:
    """Record progress and send its event. Raises PayloadError, JobNotFound, LeaseMissing or LeaseLost."""
    await change(store, "update_progress", stored_id, encode_json(value, "the progress"), *fence.arguments())


async def add_log(store: QueueStore, stored_id: str, line: str, keep: int | None, fence: Fence = NO_FENCE) -> int:
    """Append a line and return how many there are now. keep: the newest lines to keep; None: all.

    Raises JobNotFound, LeaseMissing or LeaseLost.
    """
    limit = "" if keep is None else keep
    return await change(store, "add_log", stored_id, encode_text(line), limit, *fence.arguments())
