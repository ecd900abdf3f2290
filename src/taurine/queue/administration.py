"""Running a queue's affairs: stopping and starting it, its limits, and changes to many jobs at once.

Whatever may touch many jobs goes in script calls of bounded size, so workers and producers are served in between. Such
an operation is not atomic as a whole: each call leaves the queue whole, and an operation that is cut short can be
repeated.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.metadata import version
from typing import Any, TypeAlias, TypeVar

from taurine.errors import InvalidOption, JobLocked, JobNotFound, QueueBusy, QueueNotPaused
from taurine.ids import lookup_ids, public_id
from taurine.options import RateLimit, to_milliseconds
from taurine.queue import changes
from taurine.queue.keys import AD_HOC_LIMIT
from taurine.queue.scripts import Argument
from taurine.queue.states import COLLECTIONS, FinishedState, JobState
from taurine.queue.store import QueueStore

__all__ = ["CLEANABLE", "OnProgress"]

OnProgress: TypeAlias = Callable[[int], None]
"""Called between the steps of a long operation with the number of jobs that it has changed so far."""

CLEANABLE: tuple[JobState, ...] = ("completed", "failed", "waiting", "prioritized", "delayed", "active")

_T = TypeVar("_T")

_STEP = 1000
"""Jobs that one script call looks at: some milliseconds of the server's time."""

_LARGEST_STEP = 10_000

_LIST_SEARCH = 500_000
"""List entries that one script call may pass over while it looks for orphans."""


# Stopping and starting ------------------------------------------------------------------------------------------------------------


async def pause(store: QueueStore) -> None:
    await store.run("pause")


async def resume(store: QueueStore) -> None:
    while await store.run("resume", _STEP):
        pass


# Limits ---------------------------------------------------------------------------------------------------------------------------


async def set_concurrency(store: QueueStore, most: int | None) -> None:
    await _configure(store, concurrency=_whole(most, "concurrency"))


async def set_rate_limit(store: QueueStore, limit: RateLimit | None) -> None:
    if limit is None:
        await _configure(store, max="", duration="")
        return
    if not isinstance(limit, RateLimit):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected limit to be a RateLimit or None, got {type(limit).__name__}")
    await _configure(store, max=limit.max, duration=to_milliseconds(limit.duration, "RateLimit.duration"))


async def set_max_events(store: QueueStore, most: int) -> None:
    await _configure(store, **{"opts.maxLenEvents": _whole(most, "max_length")})


async def limit_for(store: QueueStore, milliseconds: int) -> None:
    await store.connection.call("SET", store.keys.limiter, AD_HOC_LIMIT, "PX", milliseconds)


async def lengthen_limit(store: QueueStore, milliseconds: int, *, worker_max: int | None) -> None:
    """As `limit_for`, but a limit that is reached now and holds for longer stays.

    worker_max: starts per window of a worker's own limit.
    """
    await store.run("limit_for", milliseconds, "" if worker_max is None else worker_max)


async def lift_limit(store: QueueStore) -> bool:
    return bool(await store.run("configure", "", "1"))


async def _configure(store: QueueStore, **fields: Argument) -> None:
    await store.run(
        "configure", f"taurine:{version('taurine')}", "", *(part for field in fields.items() for part in field)
    )


async def trim_events(store: QueueStore, most: int) -> int:
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected max_length to be a whole number from 0, got {most!r:.40}")
    # Exact: an approximate cut keeps whole nodes of 100 entries, and so all of a short stream.
    return await store.connection.call("XTRIM", store.keys.events, "MAXLEN", most)


def check_limit(limit: int | None) -> int | None:
    """`limit`, with None for no limit. Raises InvalidOption."""
    if limit is None or limit == 0:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected limit to be a whole number from 0, got {limit!r:.40}")
    return limit


def check_step(count: int) -> int:
    """`count`, if one script call may look at so many jobs. Raises InvalidOption."""
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _LARGEST_STEP:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected count to be a whole number from 1 to {_LARGEST_STEP}, got {count!r:.40}")
    return count


def _whole(value: int | None, name: str) -> Argument:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected {name} to be a whole number from 1, got {value!r:.40}")
    return value


# One job by its id ----------------------------------------------------------------------------------------------------------------


async def remove(store: QueueStore, stored_ids: Sequence[str], *, children: bool) -> bool:
    """Remove the first of these stored ids that stands anywhere. Raises JobLocked or BelongsToScheduler."""
    if not stored_ids:
        return False
    code = await store.run("remove", store.now_ms(), "1" if children else "", *stored_ids)
    if code == 0:
        job_id = public_id(stored_ids[0])
        raise JobLocked(
            f"job {job_id!r} of queue {store.keys.name!r}, or a child of it, is being worked on; wait for its end, or cancel it first",
            job_id=job_id,
            queue=store.keys.name,
        )
    if code == -1:
        return False
    if code < 0:
        raise store.error(code, stored_ids[0])
    return True


_REMOVED_AT_ONCE = 100
"""Jobs that one script call takes out: each may have to be found in a long list."""


async def remove_ended(store: QueueStore, ended: Sequence[tuple[str, int]]) -> int:
    removed = 0
    for first in range(0, len(ended), _REMOVED_AT_ONCE):
        arguments = [part for job in ended[first : first + _REMOVED_AT_ONCE] for part in job]
        removed += await store.run("remove_ended", store.now_ms(), *arguments)
    return removed


async def update_progress(store: QueueStore, job_id: str, value: Any) -> None:
    await _change_stored(store, job_id, lambda stored_id: changes.update_progress(store, stored_id, value))


async def add_log(store: QueueStore, job_id: str, line: str, keep: int | None) -> int:
    return await _change_stored(store, job_id, lambda stored_id: changes.add_log(store, stored_id, line, keep))


async def _change_stored(store: QueueStore, job_id: str, change: Callable[[str], Awaitable[_T]]) -> _T:
    """Change the job that a caller names, under whichever of its possible ids it is stored."""
    *others, last = lookup_ids(job_id) or ("",)
    for stored_id in others:
        with contextlib.suppress(JobNotFound):
            return await change(stored_id)
    if not last:
        raise store.error(-1, str(job_id))
    return await change(last)


async def remove_deduplication(store: QueueStore, dedup_id: str) -> bool:
    return bool(await store.run("release_deduplication", dedup_id, ""))


# Many jobs ------------------------------------------------------------------------------------------------------------------------


async def drain(store: QueueStore, *, delayed: bool, on_progress: OnProgress | None) -> int:
    states: tuple[JobState, ...] = ("waiting", "prioritized", "delayed") if delayed else ("waiting", "prioritized")
    progress = _Progress(on_progress)
    for collection in _collections(states):
        seen, kept, length = 0, 0, None
        # What is added meanwhile is not chased: a fast producer would keep this going for ever.
        while length is None or seen < length:
            removed, looked_at, stayed, size = await store.run("drain", store.now_ms(), collection, kept, _STEP)
            length = size if length is None else length
            seen, kept = seen + looked_at, kept + stayed
            progress.add(removed)
            if not looked_at:
                break
    return progress.done


async def clean(
    store: QueueStore, grace_ms: int, limit: int | None, state: JobState, *, on_progress: OnProgress | None
) -> list[str]:
    cutoff = store.now_ms() - grace_ms
    ids: list[str] = []
    progress = _Progress(on_progress)
    for collection in COLLECTIONS[state]:
        seen, kept, length = 0, 0, None
        while (length is None or seen < length) and (limit is None or len(ids) < limit):
            most = _STEP if limit is None else min(_STEP, limit - len(ids))
            removed, stayed, size = await store.run("clean", store.now_ms(), cutoff, collection, kept, _STEP, most)
            length = size if length is None else length
            seen, kept = seen + len(removed) + stayed, kept + stayed
            ids += [public_id(raw.decode("utf-8", "replace")) for raw in removed]
            progress.add(len(removed))
            if not removed and not stayed:
                break
    return ids


async def obliterate(store: QueueStore, *, force: bool, on_progress: OnProgress | None) -> int:
    progress = _Progress(on_progress)
    code, is_first = 1, "1"
    while code == 1:
        code, removed = await store.run("obliterate", store.now_ms(), is_first, "1" if force else "", _STEP)
        is_first = ""
        progress.add(removed)
    name = store.keys.name
    if code == -2:
        raise QueueBusy(f"queue {name!r} has active jobs; wait until they have ended, or force", queue=name)
    if code == -1:
        raise QueueNotPaused(
            f"queue {name!r} was resumed by somebody while it was being destroyed, {progress.done} jobs are gone; obliterate again",
            queue=name,
        )
    return progress.done


async def retry_jobs(
    store: QueueStore, state: FinishedState, cutoff_ms: int, step: int, *, on_progress: OnProgress | None
) -> int:
    """Jobs that fail again meanwhile end after the cutoff, so this ends."""
    progress = _Progress(on_progress)
    looked_at = step
    while looked_at == step:
        looked_at, retried = await store.run("retry_jobs", state, cutoff_ms, step)
        progress.add(retried)
    return progress.done


async def promote_jobs(store: QueueStore, step: int, *, on_progress: OnProgress | None) -> int:
    progress = _Progress(on_progress)
    # Jobs that are promoted may be delayed again at once: no more are promoted than were there.
    left: int = await store.connection.call("ZCARD", store.keys.delayed)
    while left > 0:
        looked_at, promoted = await store.run("promote_jobs", min(step, left))
        progress.add(promoted)
        if not looked_at:
            break
        left -= looked_at
    return progress.done


class _Progress:
    """How many jobs an operation has changed so far, told to whoever asked."""

    def __init__(self, tell: OnProgress | None) -> None:
        self.done = 0
        self._tell = tell

    def add(self, changed: int) -> None:
        self.done += changed
        if self._tell is not None and changed:
            self._tell(self.done)


def _collections(states: Iterable[JobState]) -> list[str]:
    return [collection for state in states for collection in COLLECTIONS[state]]


# Orphans --------------------------------------------------------------------------------------------------------------------------

_QUEUE_KEYS = frozenset(
    b"wait active prioritized delayed completed failed paused waiting-children marker stalled stalled-check limiter meta id pc "
    b"events repeat priority delay".split()
)
_NOT_JOBS = (b"de:", b"dn:", b"metrics:")
_JOB_PARTS = (b":logs", b":dependencies", b":processed", b":failed", b":unsuccessful")
_SCHEDULED_ID = re.compile(rb"repeat:.+:[0-9]+", re.DOTALL)


async def remove_orphaned_jobs(store: QueueStore, *, limit: int | None, on_progress: OnProgress | None) -> int:
    """Ids in the lists are read first, since looking one up in a list costs its length; sorted sets answer at once."""
    listed = await _listed_ids(store)
    schedulers = frozenset(
        b"repeat:" + raw for raw in await store.connection.call("ZRANGE", store.keys.schedulers, 0, -1)
    )
    per_call = max(1, min(_STEP, _LIST_SEARCH // (len(listed) + 1)))
    pattern = re.sub(r"([*?\[\]\\])", r"\\\1", store.keys.base) + "*"
    progress = _Progress(on_progress)
    cursor: bytes = b"0"
    while True:
        cursor, keys = await store.connection.call("SCAN", cursor, "MATCH", pattern, "COUNT", _STEP)
        found = {_job_of(key[len(store.keys.base.encode()) :], schedulers) for key in keys}
        suspects = [stored_id for stored_id in found if stored_id is not None and stored_id not in listed]
        while suspects and (limit is None or progress.done < limit):
            most = per_call if limit is None else min(per_call, limit - progress.done)
            part, suspects = suspects[:most], suspects[most:]
            progress.add(len(await store.run("remove_orphans", store.now_ms(), *part)))
        if cursor == b"0" or (limit is not None and progress.done >= limit):
            return progress.done


async def _listed_ids(store: QueueStore) -> set[bytes]:
    listed: set[bytes] = set()
    for key in (store.keys.active, store.keys.wait, store.keys.legacy_paused):
        first = 0
        while page := await store.connection.call("LRANGE", key, first, first + 10 * _STEP - 1):
            listed.update(page)
            first += len(page)
    return listed


def _job_of(suffix: bytes, schedulers: frozenset[bytes]) -> bytes | None:
    """The id of the job that a key under the queue belongs to, by its name alone; None for a key that is no job's."""
    if suffix in _QUEUE_KEYS or suffix in schedulers or suffix.startswith(_NOT_JOBS):
        return None
    stored_id = next((suffix.removesuffix(part) for part in _JOB_PARTS if suffix.endswith(part)), suffix)
    if stored_id.startswith(b"repeat:"):
        return stored_id if _SCHEDULED_ID.fullmatch(stored_id) else None
    # A key with another number of colons is a lock, or belongs to a queue whose prefix starts with this one's name.
    return stored_id if stored_id.count(b":") in (0, 2) and not stored_id.endswith(b":lock") else None
