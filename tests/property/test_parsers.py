"""A fuzz run of the parsers that text of strangers reaches: each gives a value, or raises the error that it names, and
nothing else; and what is long takes no longer than it may.

Those with a file of their own are tried there: bodies, envelopes and retry policies, stored options, URLs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from taurine.cli.reading import read_payload, read_queues, read_seconds, read_slots
from taurine.clock import SystemClock
from taurine.errors import CatalogError, InvalidOption, Unauthenticated
from taurine.http.access.gate import _bearer
from taurine.http.access.public_tokens import BEGINNING, PublicTokens
from taurine.http.paths import Paths, path_text, printable
from taurine.jobs.catalog.templates import Template
from taurine.jobs.changes.subscription import Place
from taurine.jobs.credentials.api_keys import KEY_PATTERN
from taurine.ledger.listing import read_cursor
from taurine.ledger.numbered import read_number
from taurine.queue.cron import CronPattern, next_fire
from taurine.telemetry import trace_id_in

SECOND = 2.0
"""Of the processor, for any text that a head of a request can hold: a hundred times what the slowest of them needs."""

likely = st.text('0123456789-abcdef./*,?#LW @%{}[]":_=+ \\\0\ue000\ud800é', max_size=60)
texts = st.text(max_size=60) | likely
quickly = settings(max_examples=150, derandomize=True, deadline=None)

_PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

REPEATED = ["0", "a", "-", "1-", "%", "%2F", "[", "{", "{a}", "*/", "1,", "1h", " ", "a.", "eyJ", "é", "\0"]


def tokens() -> PublicTokens:
    nobody: Any = None  # a token that may be used once is not asked for
    return PublicTokens(["a secret of the tests"], used=nobody, clock=SystemClock())


def template(text: str) -> None:
    made = Template(text, of="t")
    made.render({"a": "x", "b": {"c": 1}})


def cron(text: str) -> None:
    CronPattern.parse(text)
    next_fire(text, after=1_700_000_000, tz="Europe/Berlin")


def position(text: str) -> None:
    place = Place.read(text)
    assert place.ms >= 0


def duration(text: str) -> None:
    assert 0 <= read_seconds(text, "--since") < 4e9  # a date can be made of it


def travelled(text: str) -> None:
    """In the field of a job, where JSON holds what no header does."""
    contexts = _open_telemetry()
    contexts.extract(text)
    for name in ("traceparent", "tracestate", "baggage"):
        contexts.extract(json.dumps({"traceparent": _PARENT, name: text, text: name}))


def sent(text: str) -> None:
    """In the head of a request, as a server reads it."""
    value = text.encode("latin-1", errors="replace").decode("latin-1")
    for name in ("traceparent", "tracestate", "baggage"):
        _open_telemetry().from_headers({"traceparent": _PARENT, name: value})


PARSERS: dict[str, tuple[Callable[[str], Any], type[Exception] | tuple[type[Exception], ...]]] = {
    "a segment of a path": (path_text, ValueError),
    "a name": (printable, ValueError),
    "a cursor": (read_cursor, InvalidOption),
    "a cursor of numbers": (read_number, InvalidOption),
    "a place in a stream, Last-Event-ID": (position, InvalidOption),
    "the header Authorization": (lambda text: _bearer({"authorization": text}), ()),
    "a key": (KEY_PATTERN.fullmatch, ()),
    "a public token": (lambda text: tokens().read(text), Unauthenticated),
    "a public token by its beginning": (lambda text: tokens().read(BEGINNING + text), Unauthenticated),
    "the header Cookie": (lambda text: HTTPConnection(_with(b"cookie", text)).cookies, ()),
    "a cron pattern": (cron, InvalidOption),
    "a template of ids": (template, (CatalogError, InvalidOption)),
    "a duration of the command line": (duration, InvalidOption),
    "a payload of the command line": (lambda text: read_payload(text.lstrip("@-") or "0"), InvalidOption),
    "slots of the command line": (lambda text: read_slots(text, "--concurrency"), InvalidOption),
    "queues of the command line": (lambda text: read_queues([text], None), InvalidOption),
    "what travels of a trace": (trace_id_in, ()),
    "traceparent, tracestate and baggage of a job": (travelled, ()),
    "traceparent, tracestate and baggage of a request": (sent, ()),
}


def _with(name: bytes, text: str) -> dict[str, Any]:
    return {"type": "http", "headers": [(name, text.encode("latin-1", errors="replace"))]}


def _open_telemetry() -> Any:
    return pytest.importorskip("taurine.observe.otel").OpenTelemetry(measures=False).context_manager


@pytest.mark.parametrize("parser", PARSERS)
def test_a_text_is_read_or_refused_in_the_way_that_is_said(parser: str) -> None:
    """A03, A10, A12, A14, A22, A31."""
    read, refusal = PARSERS[parser]

    @quickly
    @given(texts)
    @example("")
    def try_one(text: str) -> None:
        try:
            read(text)
        except refusal:
            return

    try_one()


@pytest.mark.parametrize("parser", PARSERS)
def test_a_long_text_takes_no_longer_than_it_may(parser: str) -> None:
    """A03, A50: 64 KiB, as a head of a request may have; a pattern that goes back over it again and again would take
    hours.
    """
    read, refusal = PARSERS[parser]
    for part in REPEATED:
        started = time.process_time()
        with contextlib.suppress(*([refusal] if isinstance(refusal, type) else refusal)):
            read((part * 65_536)[:65_536] + "!")
        assert time.process_time() - started < SECOND, part


@quickly
@given(st.text(max_size=40) | likely, st.binary(max_size=60), st.sampled_from(["", "/tasks", "/ä"]))
def test_any_path_goes_through_the_layer(path: str, raw: bytes, root: str) -> None:
    """A34: as one path, whatever a server made of what was sent."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    async def nothing(*_: Any) -> Any: ...

    for raw_path in (raw, path.encode(errors="replace"), None):
        scope = {"type": "http", "path": path, "raw_path": raw_path, "root_path": root}
        asyncio.run(Paths(app)(scope, nothing, nothing))
    assert len(seen) == 3
