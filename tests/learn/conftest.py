"""What every lesson starts from: an application with queues and records of its own.

The lessons are meant to be read in the order of their file names; each test in them says one thing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taurine import Taurine


@pytest.fixture
async def app(redis_socket_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Taurine]:
    """A program of your own says `Taurine("support-desk")`: without settings both servers are private ones in
    `.taurine/`.
    """
    async with Taurine("support-desk", redis_url=redis_socket_url, prefix=prefix, home=tmp_path) as app:
        yield app
