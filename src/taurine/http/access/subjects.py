"""Of whom refusals are told: a caller or a key by its name, or several together where they are too many."""

from __future__ import annotations

from collections import Counter
from typing import Literal, NamedTuple

from taurine.jobs.reporting.redaction import Redact

__all__ = ["OTHERS", "OTHER_TENANTS", "WRONG_KEYS", "Places", "Subject"]

OTHERS = "other callers"

OTHER_TENANTS = "callers of other tenants"

WRONG_KEYS = "API keys that are unknown or over"
"""Who shows an unknown one is nobody that is known: all of them are one subject, and so are keys that are over where
they are too many.
"""

_LONGEST = 200


class Subject(NamedTuple):
    """Whom an alert is about. What stands for several is of another kind than a caller, so that nobody can be called
    like it. name: of a caller or a key, or what is said of those whom nobody knows. id: of a key.
    """

    kind: Literal["caller", "key", "unknown", "others", "other_tenants"]
    tenant: str | None = None
    name: str = ""
    id: str = ""

    @property
    def others(self) -> Subject:
        """All who have no place of their own: callers of the same tenant, or of none; keys, whosever they are."""
        return Subject("unknown", None, WRONG_KEYS) if self.kind == "key" else Subject("others", self.tenant)

    @property
    def is_one(self) -> bool:
        """Whether it stands for one alone."""
        return self.kind in ("caller", "key")

    def shown(self, redact: Redact) -> str:
        """In words, of which no two subjects have the same: what a caller has chosen is in quotes. A name may be an
        address, so it is redacted.
        """
        if self.kind == "other_tenants":
            return OTHER_TENANTS
        if self.kind == "unknown":
            return self.name
        name = OTHERS if self.kind == "others" else _quoted(self.name, redact)
        if self.kind == "key":
            name = f"API key {name} ({self.id})"
        return name if self.tenant is None else f"{name} of tenant {_quoted(self.tenant, redact)}"


class Places:
    """Who has a place of its own, and who shares one.

    most: callers of tenants by their names, tenants whose other callers are together, and callers of no tenant, each.
    of_a_tenant: callers of one tenant by their names. Keys that are over have as many places of their own. So no tenant
    can take the place of another's, nor of those whom nobody knows.
    """

    def __init__(self, *, most: int, of_a_tenant: int) -> None:
        self._most = most
        self._of_a_tenant = of_a_tenant
        self._taken: set[Subject] = set()
        self._of_tenants: Counter[tuple[str, str | None]] = Counter()
        self._together: Counter[tuple[str, bool]] = Counter()

    def place(self, subject: Subject) -> Subject:
        """The place of a subject, which is taken from now on: its own, its tenant's, or that of other tenants."""
        for wanted in (subject, subject.others):
            if wanted in self._taken:
                return wanted
            if self._has_room(wanted):
                self._take(wanted)
                return wanted
        return Subject("other_tenants")

    def clear(self) -> None:
        """Give all places free."""
        self._taken.clear()
        self._of_tenants.clear()
        self._together.clear()

    def _has_room(self, wanted: Subject) -> bool:
        if self._together[wanted.kind, wanted.tenant is None] >= self._most:
            return False
        return wanted.tenant is None or self._of_tenants[wanted.kind, wanted.tenant] < self._of_a_tenant

    def _take(self, wanted: Subject) -> None:
        self._taken.add(wanted)
        self._together[wanted.kind, wanted.tenant is None] += 1
        self._of_tenants[wanted.kind, wanted.tenant] += 1


def _quoted(text: str, redact: Redact) -> str:
    return repr(redact.text(text)[:_LONGEST])
