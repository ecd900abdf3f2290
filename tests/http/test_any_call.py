"""Calls that nobody thought of: what schemathesis makes of the OpenAPI document, against a server, with no 5xx and no
answer that the document does not describe.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from support.api import declare_invites
from taurine.app import Taurine
from taurine.http import create_app
from taurine.http.serving import listen, serve, url_of

SLOW_OR_RARE = [
    HealthCheck.too_slow,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]
"""Some descriptions leave little to choose from; that is no fault of the API."""


class Served:
    """An application's API, served on a loop and a thread of its own."""

    def __init__(self, make: Callable[[], Taurine]) -> None:
        self._listening = listen("127.0.0.1", 0)
        self.url = url_of(self._listening)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(make)), name="served")
        self._thread.start()
        assert self._ready.wait(30), "the API was not served within 30 s"

    async def _serve(self, make: Callable[[], Taurine]) -> None:
        self._loop = asyncio.get_running_loop()
        api = create_app(make(), answer_within=30.0)
        self._task = asyncio.create_task(serve(api, self._listening, ready=self._ready.set, grace=1.0))
        await asyncio.wait({self._task})

    def close(self) -> None:
        """Stop serving, and wait for the end."""
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def document(redis_socket_url: str, prefix: str, tmp_path: Path) -> Iterator[Any]:
    """The document of an API that is served."""

    def make() -> Taurine:
        app = Taurine(
            "any",
            redis_url=redis_socket_url,
            database_url=f"sqlite:///{tmp_path / 'taurine.db'}",
            home=tmp_path,
            prefix=prefix,
        )
        declare_invites(app)
        return app

    served = Served(make)
    yield schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    served.close()


@pytest.mark.parametrize(("mode", "examples"), [(GenerationMode.POSITIVE, 6), (GenerationMode.NEGATIVE, 4)], ids=str)
def test_whatever_is_called_is_answered_as_described(document: Any, mode: GenerationMode, examples: int) -> None:
    """Of each operation some calls that fit its description, and some that do not."""
    session, made = requests.Session(), 0
    checks = [not_a_server_error, response_schema_conformance, status_code_conformance]
    for found in document.get_all_operations():
        operation = found.ok()
        if "text/event-stream" in str(
            operation.definition.raw
        ):  # an answer without an end; they have tests of their own
            continue

        @settings(max_examples=examples, database=None, suppress_health_check=SLOW_OR_RARE)
        @given(case=operation.as_strategy(generation_mode=mode))
        def call(case: Any) -> None:
            nonlocal made
            made += 1
            case.call_and_validate(session=session, checks=checks, timeout=10)

        with contextlib.suppress(Unsatisfiable):  # an operation without anything to get wrong
            call()
    session.close()
    assert made > 100, "hardly anything was called"
