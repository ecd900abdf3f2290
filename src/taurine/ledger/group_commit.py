"""Group commit: concurrent writes of one process share transactions.

The first write starts a transaction at the next turn of the event loop; whatever comes while it is under way goes with
the one after it. So a lone write waits for nobody, and a thousand concurrent ones cost a few commits.

DeWitt et al., "Implementation Techniques for Main Memory Database Systems" (SIGMOD 1984), section 5.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection

from taurine.ledger.database import Database, concerns_all

__all__ = ["Apply", "GroupCommit"]

log = logging.getLogger("taurine.ledger")

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

Apply: TypeAlias = Callable[[Connection, Sequence[ItemT]], Sequence[ResultT | Exception]]
"""Writes some items of one kind in the transaction at hand; returns a result for each, or the error that its caller is
to get.
"""

Heard: TypeAlias = Callable[[Any], None]
"""Called with the result of a write once it is committed, or with the error that its caller is to get."""

_Entry: TypeAlias = tuple[Any, Heard | None]

_MOST_ITEMS = 2000
"""Items in one transaction: enough to share a commit, few enough that a reader of the lock waits for milliseconds."""

_POST_SECONDS = 0.05
"""Seconds that a write which nobody waits for waits for company: a commit of its own would cost the disk as much as the
one that it follows.
"""


class GroupCommit:
    """Writes to one database that share transactions. A write that fails fails alone.

    at_once: kinds that write by one statement and may be written twice; a batch of one of them alone goes by
    `Database.write_at_once`.
    last: kinds that pass over rows which another transaction holds. They go last in each transaction: two processes
    that held such rows while they waited for each other's would deadlock.
    """

    def __init__(
        self, database: Database, *, at_once: Collection[Apply[Any, Any]] = (), last: Collection[Apply[Any, Any]] = ()
    ) -> None:
        self._database = database
        self._at_once = frozenset(at_once)
        self._last = frozenset(last)
        self._pending: dict[Apply[Any, Any], list[_Entry]] = {}
        self._flush: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    async def submit(self, apply: Apply[ItemT, ResultT], item: ItemT) -> ResultT:
        """The result of `apply` for `item`, once it is committed.

        Items of one `apply` keep their order; different ones share the transaction in the order in which they first
        came.
        Raises what the database raises; then nothing of this item was written, except after LedgerUnavailable, when it
        may have been.
        A caller that is cancelled does not take its write back.
        """
        done: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        self.hand_in(apply, item, partial(_settle, done))
        return await done

    def hand_in(self, apply: Apply[ItemT, ResultT], item: ItemT, heard: Callable[[ResultT | Exception], None]) -> None:
        """`submit` for a caller that need not wait: `heard` is called once, with the result or the error.

        It must not raise.
        """
        self._enter(apply, (item, heard))
        self._start()

    def post(self, apply: Apply[ItemT, Any], item: ItemT) -> None:
        """Write `item` with the next transaction, or in a moment in one of its own; for what is written again if it is
        lost.

        A failure is logged at debug level only.
        """
        self._enter(apply, (item, None))
        if self._flush is None and self._later is None:
            self._later = asyncio.get_running_loop().call_later(_POST_SECONDS, self._start)

    def _enter(self, apply: Apply[Any, Any], entry: _Entry) -> None:
        self._pending.setdefault(apply, []).append(entry)

    def _start(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._flush is None:
            self._flush = asyncio.create_task(self._run(), name="taurine group commit")

    async def close(self) -> None:
        """Return when everything that was submitted, or posted, is written."""
        if self._pending:
            self._start()
        if self._flush is not None:
            await asyncio.wait({self._flush})

    async def _run(self) -> None:
        try:
            while self._pending:
                batch = self._next_batch()
                await self._commit(dict(sorted(batch.items(), key=lambda entry: entry[0] in self._last)))
        finally:
            self._flush = None

    def _next_batch(self) -> dict[Apply[Any, Any], list[_Entry]]:
        if sum(map(len, self._pending.values())) <= _MOST_ITEMS:
            batch, self._pending = self._pending, {}
            return batch
        batch, left = dict[Apply[Any, Any], list[_Entry]](), _MOST_ITEMS
        for apply in list(self._pending):
            entries = self._pending.pop(apply)
            batch[apply], rest = entries[:left], entries[left:]
            left -= len(batch[apply])
            if rest:
                self._pending = {apply: rest, **self._pending}
                break
        return batch

    async def _commit(self, batch: dict[Apply[Any, Any], list[_Entry]]) -> None:
        write = (
            self._database.write_at_once
            if len(batch) == 1 and self._at_once.issuperset(batch)
            else self._database.write
        )
        try:
            results = await write(
                lambda connection: [
                    apply(connection, [item for item, _ in entries]) for apply, entries in batch.items()
                ]
            )
        except Exception as error:  # noqa: BLE001 - each caller gets its own
            if concerns_all(error):
                _fail(_flat(batch), error)
            else:
                await self._commit_apart(batch, error)
        else:
            for entries, answers in zip(batch.values(), results, strict=True):
                for entry, answer in zip(entries, answers, strict=True):
                    _tell(entry, answer)

    async def _commit_apart(self, batch: dict[Apply[Any, Any], list[_Entry]], error: Exception) -> None:
        """An item spoilt the transaction: each half is tried in one of its own, until the others are written and it
        fails alone.
        """
        items = [(apply, entry) for apply, entries in batch.items() for entry in entries]
        if len(items) == 1:
            _fail(_flat(batch), error)
            return
        middle = len(items) // 2
        for half in (items[:middle], items[middle:]):
            part: dict[Apply[Any, Any], list[_Entry]] = {}
            for apply, entry in half:
                part.setdefault(apply, []).append(entry)
            await self._commit(part)


def _flat(batch: dict[Apply[Any, Any], list[_Entry]]) -> list[_Entry]:
    return [entry for entries in batch.values() for entry in entries]


def _settle(done: asyncio.Future[Any], answer: Any) -> None:
    if done.done():  # its caller was cancelled
        return
    if isinstance(answer, Exception):
        done.set_exception(answer)
    else:
        done.set_result(answer)


def _fail(entries: Sequence[_Entry], error: Exception) -> None:
    if any(heard is None for _, heard in entries):
        log.debug("a write that nobody waits for failed: %s", error)
    for entry in entries:
        _tell(entry, error)


def _tell(entry: _Entry, answer: Any) -> None:
    _, heard = entry
    if heard is None:
        return
    try:
        heard(answer)
    except Exception:
        # The others of its transaction are to hear of theirs, and those behind it are to be written.
        log.exception("a write has ended, and who was told of it failed")
