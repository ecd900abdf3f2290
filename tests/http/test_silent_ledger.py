"""A database that does not answer: every request is told so within its time, however many wait (SEED-036, CON-10)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from support.api import Client, declare_invites, problem
from taurine import Taurine


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A PostgreSQL that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"postgresql://me:secret@127.0.0.1:{listening.getsockname()[1]}/x"


async def test_all_are_told_within_their_time(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client], silent_url: str
) -> None:
    app = app_factory(database_url=silent_url)
    declare_invites(app)
    client = client_of(app, answer_within=0.2)
    async with asyncio.timeout(
        4.5
    ):  # a connection has five seconds, and six of them one after the other would have thirty
        answers = await asyncio.gather(
            *(client.enqueue() for _ in range(3)),
            *(client.get(path) for path in ("/v1/jobs", "/v1/queues", "/v1/jobs/some")),
        )
    for answer in answers:
        assert problem(answer) == (503, "ledger_unavailable")
        assert int(answer.headers["retry-after"]) >= 1
        assert "secret" not in answer.text
