"""How a handler is called in a process of its own: a runtime names its binder, which checks the payload and builds the
context over there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from taurine.jobs.executors.link import Link
from taurine.retry import Verdict, classify

__all__ = ["Binder", "Bound"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A handler ready to be called.

    invoke: returns the result or a coroutine of it. classify: judges its errors, the job type's rules included.
    """

    invoke: Callable[[], Any]
    classify: Callable[[BaseException], Verdict] = classify


class Binder(Protocol):
    """Makes a handler ready to be called, in its process, before each attempt."""

    def __call__(
        self, found: Any, handler: Callable[..., Any], payload: str, snapshot: Mapping[str, Any], link: Link
    ) -> Bound:
        """found: what stands under the handler's name, a job type perhaps; handler: the function in it. payload: as
        JSON text.
        snapshot: what the context of the worker's side gave. What this raises fails the attempt.
        """
        ...
