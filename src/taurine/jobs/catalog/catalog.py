"""The catalog: every job type that an application knows.

It is closed: what is not declared here is neither enqueued nor run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from taurine.errors import AlreadyDeclared, TaurineWarning, UnknownJobType, did_you_mean
from taurine.jobs.catalog.job_type import JobType
from taurine.jobs.catalog.queues import QueueRules

__all__ = ["Catalog", "warn_of_vague_name"]

_VAGUE = re.compile(
    r"(do|run|execute|process|handle|handler|job|task|work|worker|func|function|main|default|send|generate|test|foo|bar)[-_.]?\d*",
    re.IGNORECASE,
)


def warn_of_vague_name(name: str) -> None:
    """Warn of a name that says nothing to whoever reads it on a dashboard at night.

    Called by what the user's code calls.
    """
    if isinstance(name, str) and _VAGUE.fullmatch(name):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        warnings.warn(
            f"the job type's name {name!r} does not say what the job does; call it f.e. 'send-welcome-email' or 'invoice.send'",
            TaurineWarning,
            stacklevel=3,
        )


class Catalog:
    """The job types of one application, by name."""

    def __init__(self) -> None:
        self._types: dict[str, JobType[Any, Any]] = {}
        self._system: dict[str, JobType[Any, Any]] = {}
        self._rules: dict[str, QueueRules] = {}

    def add(self, job_type: JobType[Any, Any]) -> None:
        """Declare a type. Raises AlreadyDeclared for a name that is taken."""
        self._require_free(job_type)
        self._types[job_type.name] = job_type

    def add_system(self, job_type: JobType[Any, Any]) -> None:
        """Declare a type of Taurine's own: it is found, handed over and run as any other, and not counted among what
        the application declares.
        """
        self._require_free(job_type)
        self._system[job_type.name] = job_type

    def _require_free(self, job_type: JobType[Any, Any]) -> None:
        if self.find(job_type.name) is not None:
            raise AlreadyDeclared(
                f"the job type {job_type.name!r} is declared already; a name stands for one type of job"
            )

    def add_queue(self, rules: QueueRules) -> None:
        """Declare what holds for a queue. Raises AlreadyDeclared for a queue that has other rules."""
        if self._rules.setdefault(rules.name, rules) != rules:
            raise AlreadyDeclared(f"the queue {rules.name!r} is declared already, with other rules")

    def rules_of(self, queue: str) -> QueueRules:
        """What was declared of a queue; the defaults for one of which nothing was."""
        return self._rules.get(queue) or QueueRules(name=queue)

    def find(self, name: str) -> JobType[Any, Any] | None:
        """The type of this name, or None."""
        return self._types.get(name) or self._system.get(name)

    def get(self, name: str) -> JobType[Any, Any]:
        """The type of this name. Raises UnknownJobType, with the near miss."""
        found = self.find(name)
        if found is None:
            raise UnknownJobType(f"no job type {name!r:.80} is declared{did_you_mean(name, list(self._types))}")
        return found

    def declared(self, name: str) -> JobType[Any, Any]:
        """The application's own type of this name, for names that come from callers: Taurine's own types say in their
        payload what they may do. Raises UnknownJobType.
        """
        found = self._types.get(name)
        if found is None:
            raise UnknownJobType(f"no job type {name!r:.80} is declared{did_you_mean(name, list(self._types))}")
        return found

    def check(self, job_type: JobType[Any, Any]) -> None:
        """Raise UnknownJobType for a type that is not of this catalog: another application's, whose queues may be
        elsewhere.
        """
        if self.find(job_type.name) is not job_type:
            raise UnknownJobType(
                f"the job type {job_type.name!r:.80} is declared by another application; enqueue it there"
            )

    def __iter__(self) -> Iterator[JobType[Any, Any]]:
        """The types that the application declares."""
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    @property
    def queues(self) -> list[str]:
        """The queues of the application's types, in the order in which they were first named."""
        return list(dict.fromkeys(job_type.queue for job_type in self))

    @property
    def all_types(self) -> list[JobType[Any, Any]]:
        """The types of the application, and after them those of Taurine's own."""
        return [*self, *self._system.values()]

    @property
    def system_queues(self) -> list[str]:
        """The queues of Taurine's own types."""
        return list(dict.fromkeys(job_type.queue for job_type in self._system.values()))

    @property
    def all_queues(self) -> list[str]:
        """The queues of all types, those of Taurine's own last."""
        return list(dict.fromkeys((*self.queues, *self.system_queues)))

    def has_queue(self, name: str) -> bool:
        """True for a queue that a type goes to, or of which something was declared."""
        return name in self._rules or name in self.all_queues

    def on_queue(self, queue: str) -> list[JobType[Any, Any]]:
        """The types whose jobs go to `queue`."""
        return [job_type for job_type in self.all_types if job_type.queue == queue]
