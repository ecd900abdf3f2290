"""Long answers: what they cost is bounded, for the process and for each tenant (A32, A38)."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any
from weakref import ref

import pytest
from starlette.requests import HTTPConnection

from support.eventually import eventually
from taurine import Taurine
from taurine.http.access.caller import Caller
from taurine.http.aside import Aside, TooManyAtOnce
from taurine.http.live.documents import Documents
from taurine.http.live.listener import Listener
from taurine.http.representations import Shown
from taurine.jobs.reporting.redaction import Redact

MEGABYTE = 1 << 20


class Counting(Redact):
    """Rules that count what is looked through."""

    def __init__(self) -> None:
        super().__init__(patterns=["secret"])
        self.looked_at: list[str] = []

    def text(self, text: str) -> str:
        self.looked_at.append(text)
        return super().text(text)


def listener(redact: Redact, *, inside: bool = True) -> Listener:
    connection = HTTPConnection({"type": "http", "headers": []})

    async def allowed() -> None: ...

    shown = Shown(connection, redact=redact, payloads=True, inside=inside)
    caller = Caller(name="ada", scopes=frozenset({"read"}))
    return Listener(caller=caller, shown=shown, open_seconds=1.0, allowed=allowed)


async def test_a_thousand_listeners_are_one_document_and_no_payload(app: Taurine) -> None:
    """A38: the payload is not told, so nobody looks through it."""
    handle = await app.enqueue("thing.keep", {"note": "x" * 900_000}, tags=["a tag"])
    record = await app.get(handle.id)
    assert record is not None
    redact, aside = Counting(), Aside()
    documents = Documents(aside)
    made = await asyncio.gather(*(documents.of(record, listener(redact)) for _ in range(1000)))
    assert all(document is made[0] for document in made)
    assert "payload" not in made[0]
    assert redact.looked_at.count("a tag") == 1
    assert max(map(len, redact.looked_at)) < 100

    kept = ref(record)
    other = await documents.of(record, listener(redact, inside=False))
    del record
    gc.collect()
    assert kept() is None
    assert other is not made[0]


async def test_a_tenant_has_a_share_of_the_thread() -> None:
    """A38: what nobody waits for any more is counted as long as it is made."""
    aside, go = Aside(), threading.Event()

    def ask(tenant: str | None) -> asyncio.Task[Any]:
        return asyncio.create_task(aside.make(MEGABYTE, go.wait, tenant=tenant))

    asked = [ask("acme") for _ in range(4)]
    await eventually(lambda: aside._under_way["acme"] == 4, message="four have their places")
    asked[3].cancel()
    with pytest.raises(TooManyAtOnce):
        await ask("acme")
    assert await aside.make(10, lambda: "short", tenant="acme") == "short"
    others = [ask(f"tenant {number % 4}") for number in range(12)]
    await eventually(lambda: aside._under_way.total() == 16, message="all places are taken")
    with pytest.raises(TooManyAtOnce):
        await ask("one more")
    go.set()
    assert await asyncio.gather(*asked[:3], *others) == [True] * 15
    await eventually(lambda: not aside._under_way, message="all places are free")
    assert await ask("acme")
