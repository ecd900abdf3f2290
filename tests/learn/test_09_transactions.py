"""Lesson 9: a job joins the caller's transaction, so that it exists exactly if the caller's own rows do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from taurine import JobType, Taurine


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "shop_user"
    name: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
async def welcome(app: Taurine) -> JobType[str, str]:
    return app.declare("user.welcome", str, str, queue="mail")


@pytest.fixture
async def session(app: Taurine, tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """A session on the database that holds the records; here it is the SQLite file of the application's home."""
    await app.migrate()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'taurine.db'}")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        yield session
    await engine.dispose()


async def test_both_or_none(app: Taurine, welcome: JobType[str, str], session: AsyncSession) -> None:
    async with session.begin():
        session.add(User(name="ada"))
        kept = await welcome.enqueue("ada", session=session)
    session.add(User(name="bob"))
    lost = await welcome.enqueue("bob", session=session)
    await session.rollback()

    assert await app.get(kept.id) is not None
    assert await app.get(lost.id) is None


async def test_it_runs_after_the_commit(app: Taurine, welcome: JobType[str, str], session: AsyncSession) -> None:
    @welcome.handler
    async def run(name: str) -> str:
        return f"hello {name}"

    async with app.worker():
        async with session.begin():
            handle = await welcome.enqueue("ada", session=session)
            assert await app.get(handle.id) is None, "nobody sees it before"
        assert await handle.result(timeout=10) == "hello ada"


async def test_code_without_an_event_loop_does_the_same(app: Taurine, welcome: JobType[str, str]) -> None:
    await app.migrate()
    engine = create_engine(f"sqlite:///{app.settings.home / 'taurine.db'}")

    def sign_up() -> str:
        with Session(engine) as session, session.begin():
            return welcome.enqueue_sync("ada", session=session).id

    job_id = await asyncio.to_thread(sign_up)
    engine.dispose()

    assert await app.get(job_id) is not None
