"""Which queues were paused at the last look, and when one of them was first seen to go on: the time of a pause is
nobody's neglect, and counts for no rule.

It is kept in the ledger, since any process may take the next look.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Self

__all__ = ["Pauses"]


@dataclass(frozen=True, slots=True)
class Pauses:
    """paused: queues that were at the last look. resumed: of the others that once were, when the first look after saw
    them go on, wall seconds.
    """

    paused: AbstractSet[str] = frozenset()
    resumed: Mapping[str, float] = field(default_factory=dict[str, float])

    def after(self, queues: Mapping[str, bool], at: float) -> Pauses:
        """What a look at these makes of it: each queue of which something is known, and whether it is paused."""
        paused = (self.paused - queues.keys()) | {name for name, is_paused in queues.items() if is_paused}
        fresh = dict.fromkeys(self.paused - paused, at)
        kept = {name: since for name, since in self.resumed.items() if name not in paused}
        return Pauses(paused, kept | fresh)

    def to_json(self) -> str:
        return json.dumps({"paused": sorted(self.paused), "resumed": dict(sorted(self.resumed.items()))})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` has written; "{}" stands for nothing."""
        found = json.loads(text)
        return cls(frozenset(found.get("paused", ())), found.get("resumed", {}))
