"""The children of a job: what those that ended have left, and who is still awaited.

Four keys beside the parent's hash hold them. A child moves from `unprocessed` to one of the others when it ends, or out
of all when it is removed.
Children are named by their keys, `<prefix>:<queue>:<id>`, since they may belong to other queues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taurine.errors import CorruptJob, InvalidOption
from taurine.ids import public_id
from taurine.queue.scripts import Argument
from taurine.queue.store import QueueStore
from taurine.queue.wire import decode_json

__all__ = ["Dependencies", "DependencyCounts", "children_values", "count_dependencies", "read_dependencies"]

_PAGE = 1000
_DONE = "-"

_PARTS = (("HSCAN", "processed"), ("SSCAN", "dependencies"), ("HSCAN", "failed"), ("ZSCAN", "unsuccessful"))


@dataclass(frozen=True, slots=True)
class Dependencies:
    """One page of a job's children, by child key."""

    processed: Mapping[str, Any]
    """Results of children that completed."""
    unprocessed: Sequence[str]
    """Children that have not ended, or that failed and are still awaited."""
    ignored: Mapping[str, str]
    """Reasons of children that failed while their policy lets the parent go on."""
    failed: Sequence[str]
    """Children whose failure fails the parent."""
    cursor: str | None
    """Where the next page starts; None after the last."""


@dataclass(frozen=True, slots=True)
class DependencyCounts:
    """How many children a job has in each part of `Dependencies`."""

    processed: int
    unprocessed: int
    ignored: int
    failed: int


async def children_values(store: QueueStore, stored_id: str) -> dict[str, Any]:
    """The results of all completed children, by child key; read in pages."""
    key, values, cursor = f"{store.keys.job(stored_id)}:processed", dict[str, Any](), "0"
    while cursor != _DONE:
        cursor, flat = await _scan(store, "HSCAN", key, cursor, _PAGE)
        values.update(_results(store, stored_id, flat))
    return values


async def read_dependencies(store: QueueStore, stored_id: str, *, cursor: str | None, limit: int) -> Dependencies:
    """One page.

    The server may return more or fewer than `limit` of each part, and a child that moves between pages may be seen
    twice.

    Raises InvalidOption for a cursor that did not come from a page.
    """
    cursors = ["0"] * 4 if cursor is None else cursor.split(".")
    if len(cursors) != 4 or not all(part == _DONE or part.isdecimal() for part in cursors):
        raise InvalidOption(f"expected a cursor from an earlier page, got {cursor!r:.80}")
    base = store.keys.job(stored_id)
    following, pages = list[str](), list[list[bytes]]()
    for (command, suffix), start in zip(_PARTS, cursors, strict=True):
        after, flat = (_DONE, []) if start == _DONE else await _scan(store, command, f"{base}:{suffix}", start, limit)
        following.append(after)
        pages.append(flat)
    processed, unprocessed, ignored, failed = pages
    return Dependencies(
        processed=_results(store, stored_id, processed),
        unprocessed=[_text(child) for child in unprocessed],
        ignored={_text(child): _text(reason) for child, reason in _pairs(ignored)},
        failed=[_text(child) for child in failed[::2]],
        cursor=None if following == [_DONE] * 4 else ".".join(following),
    )


async def count_dependencies(store: QueueStore, stored_id: str) -> DependencyCounts:
    """The sizes of the four parts."""
    base = store.keys.job(stored_id)
    lengths: list[int] = await store.connection.pipeline(
        [
            ("HLEN", f"{base}:processed"),
            ("SCARD", f"{base}:dependencies"),
            ("HLEN", f"{base}:failed"),
            ("ZCARD", f"{base}:unsuccessful"),
        ]
    )
    return DependencyCounts(*lengths)


async def _scan(store: QueueStore, command: Argument, key: str, cursor: str, count: int) -> tuple[str, list[bytes]]:
    after, flat = await store.connection.call(command, key, cursor, "COUNT", count)
    return (_DONE if after == b"0" else after.decode()), flat


def _pairs(flat: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _results(store: QueueStore, stored_id: str, flat: Sequence[bytes]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for child, value in _pairs(flat):
        try:
            results[_text(child)] = decode_json(value)
        except (ValueError, RecursionError) as error:
            raise CorruptJob(
                f"the stored result of child {_text(child)!r} of job {public_id(stored_id)!r} cannot be decoded: {error}",
                job_id=public_id(stored_id),
                queue=store.keys.name,
            ) from None
    return results


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")
