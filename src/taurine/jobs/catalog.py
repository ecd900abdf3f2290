"""The catalog: every job type that an application knows. It is closed: what is not declared here is neither enqueued nor run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taurine.errors import AlreadyDeclared, UnknownJobType, did_you_mean
from taurine.jobs.job_type import JobType

__all__ = ["Catalog"]


class Catalog:
    """The job types of one application, by name."""

    def __init__(self) -> None:
        self._types: dict[str, JobType[Any, Any]] = {}

    def add(self, job_type: JobType[Any, Any]) -> None:
        """Declare a type. Raises AlreadyDeclared for a name that is taken."""
        if job_type.name in self._types:
            raise AlreadyDeclared(
                f"the job type {job_type.name!r} is declared already; a name stands for one type of job"
            )
        self._types[job_type.name] = job_type

    def find(self, name: str) -> JobType[Any, Any] | None:
        """The type of this name, or None."""
        return self._types.get(name)

    def get(self, name: str) -> JobType[Any, Any]:
        """The type of this name. Raises UnknownJobType, with the near miss."""
        found = self._types.get(name)
        if found is None:
            raise UnknownJobType(f"no job type {name!r:.80} is declared{did_you_mean(name, list(self._types))}")
        return found

    def __iter__(self) -> Iterator[JobType[Any, Any]]:
        return iter(self._types.values())

    def __len__(self) -> int:
        return len(self._types)

    @property
    def queues(self) -> list[str]:
        """The queues of all types, in the order in which they were first named."""
        return list(dict.fromkeys(job_type.queue for job_type in self))

    def on_queue(self, queue: str) -> list[JobType[Any, Any]]:
        """The types whose jobs go to `queue`."""
        return [job_type for job_type in self if job_type.queue == queue]
