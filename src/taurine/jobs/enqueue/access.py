"""Who may enqueue: the hook that an application gives, and what it is asked."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from taurine.errors import NotAuthorized

__all__ = ["AccessRequest", "Authorize", "authorized"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequest:
    """What somebody wants to do.

    action: "enqueue", "cancel", "retry", "reschedule", "redrive", "discard", "set_quota", "remove_schedule"; and of a
    queue "pause_queue", "resume_queue", "drain_queue", "clean_queue", "limit_queue", "remove_queue"; and of who may
    call "create_key", "revoke_key", "add_admin", "remove_admin", "set_password". A bulk operation is the "enqueue" of a
    "taurine.bulk", and then one question for each job. job_type: "" for a queue, and for a quota of all types. tenant:
    whose job it is, as far as the request says. user: who asks. payload: of an enqueue only, and not checked yet: it is
    what the caller gave.
    """

    action: str
    job_type: str
    tenant: str | None
    user: str | None
    payload: Any = None


Authorize: TypeAlias = Callable[[AccessRequest], "bool | Awaitable[bool | None] | None"]
"""False, or a raised NotAuthorized, refuses; anything else allows. May be async."""


async def authorized(authorize: Authorize | None, request: AccessRequest) -> None:
    """Ask the hook. Raises NotAuthorized where it says no; an error of the hook itself refuses too, as it is."""
    if authorize is None:
        return
    answer = authorize(request)
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is False:
        raise NotAuthorized(
            f"{request.user or 'the caller'} may not {request.action} {request.job_type or 'all types'!r}"
        )
