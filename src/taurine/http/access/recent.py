"""What was learnt a moment ago: a bounded memory for a few seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from taurine.clock import Clock

__all__ = ["Recent"]

ValueT = TypeVar("ValueT")


class Recent(Generic[ValueT]):
    """At most `size` values, each for `seconds`; the one that was put in first goes first."""

    def __init__(self, *, seconds: float, size: int, clock: Clock) -> None:
        self._seconds = seconds
        self._size = size
        self._clock = clock
        self._values: OrderedDict[bytes, tuple[float, ValueT]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: bytes) -> ValueT | None:
        """What was put in under this name and is not too old."""
        found = self._values.get(name)
        if found is None:
            return None
        if self._clock.monotonic() >= found[0]:
            self._values.pop(name, None)
            return None
        return found[1]

    def put(self, name: bytes, value: ValueT) -> None:
        """Remember it from now on."""
        if self._seconds <= 0:
            return
        self._values.pop(name, None)
        self._values[name] = (self._clock.monotonic() + self._seconds, value)
        while len(self._values) > self._size:
            self._values.popitem(last=False)
