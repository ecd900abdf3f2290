"""What the tests of pipelines as jobs start from: an application with queues and records of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from taurine import Taurine


@pytest.fixture
async def app(redis_socket_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Taurine]:
    async with Taurine("support-desk", redis_url=redis_socket_url, prefix=prefix, home=tmp_path) as app:
        yield app
