"""Joining the caller's transaction: records that are there exactly if its other rows are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from taurine.errors import InvalidOption
from taurine.jobs.catalog.requests import AnySession

__all__ = ["in_session", "session_of_thread"]

ResultT = TypeVar("ResultT")


async def in_session(given: AnySession, record: Callable[[Session], ResultT]) -> ResultT:
    """Call `record` with the caller's session, on its event loop. Raises InvalidOption for what is no session."""
    session = _plain(given)
    return await session.run_sync(record) if isinstance(session, AsyncSession) else record(session)


def session_of_thread(given: AnySession) -> Session:
    """The session of a caller without an event loop, to be used in its thread.

    Raises InvalidOption for an async one, and for what is no session.
    """
    session = _plain(given)
    if isinstance(session, AsyncSession):
        raise InvalidOption("an AsyncSession belongs to its event loop; use the call without _sync there, with await")
    return session


def _plain(given: AnySession) -> Session | AsyncSession:
    """The session itself, of one that is scoped to a thread or task."""
    found: Any = given() if isinstance(given, scoped_session | async_scoped_session) else given
    if not isinstance(found, Session | AsyncSession):
        raise InvalidOption(f"expected session to be a SQLAlchemy Session or AsyncSession, got {type(found).__name__}")
    return found
