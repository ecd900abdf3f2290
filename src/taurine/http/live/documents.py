"""What listeners are told of a job."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import ref

from taurine.http.aside import Aside
from taurine.http.live.listener import Listener
from taurine.ledger.records import JobRecord

__all__ = ["Documents"]

_KEPT = 64

Document: TypeAlias = dict[str, Any]


class Documents:
    """A document for each version of a job, made once for all listeners who may see the same of it: a thousand of them
    hear of one change together.
    """

    def __init__(self, aside: Aside) -> None:
        self._aside = aside
        # The record is not kept, since its payload may be large; while it is there, its address is nobody else's.
        self._made: OrderedDict[tuple[object, ...], tuple[ref[JobRecord], asyncio.Future[Document]]] = OrderedDict()

    async def of(self, record: JobRecord, listener: Listener) -> Document:
        """The job as it is now, without its payload, which stays what it was."""
        key = (id(record), *listener.shown.rules)
        made = self._made.get(key)
        if made is None or made[0]() is not record:
            document = asyncio.ensure_future(self._making(record, listener.shown.change))
            self._made[key] = made = (ref(record), document)
            if len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return await asyncio.shield(made[1])

    async def _making(self, record: JobRecord, make: Callable[[JobRecord], Document]) -> Document:
        size = record.text_size - len(record.payload_json)
        return await self._aside.make_in_turn(size, lambda: make(record))
