from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from taurine.testing import TestClock, drain, run_twice

PICTURE = b"P5 20 10 255\n" + bytes(range(200))
THUMBNAIL = b"P5 7 4 255\n" + bytes(row + column for row in range(0, 200, 60) for column in range(0, 20, 3))


@pytest.fixture
def example(imported: Callable[..., Any]) -> Any:
    return imported("uploads", clock=TestClock())


@pytest.fixture
def store(example: Any, tmp_path: Path) -> Any:
    return example.Store(tmp_path / "album")


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def test_the_program_makes_one_thumbnail_of_two_uploads(started: Callable[..., str]) -> None:
    """SEED-110: and none when it is run again."""
    picture = b"P5 32 16 255\n" + bytes(range(256)) * 2
    good, broken = sha256(picture), sha256(picture[:-100])

    def said(*, new: bool) -> list[str]:
        first, later = "false" if new else "true", "true"
        return [
            f'202 {{"job": "upload:{good}", "duplicate": {first}}}',
            f"   thumbnails/{good}.pgm",
            f'202 {{"job": "upload:{good}", "duplicate": {later}}}',
            f"   thumbnails/{good}.pgm",
            f'202 {{"job": "upload:{broken}", "duplicate": {first}}}',
            "   dead after 1 attempt: this is not the whole of a picture of 32 x 16 pixels",
            f"{int(new)} thumbnails made",
        ]

    assert started("uploads").splitlines() == said(new=True)
    assert started("uploads").splitlines() == said(new=False)


async def test_a_picture_that_is_sent_again_is_processed_once(example: Any, store: Any) -> None:
    """SEED-110: five times at once; and when the job has ended."""
    answers = await asyncio.gather(*(example.receive(PICTURE, store) for _ in range(5)))
    (record,) = (await drain(example.app, deps=store)).completed
    late = await example.receive(PICTURE, store)
    again = await drain(example.app, deps=store)

    assert sorted(answer["duplicate"] for _, answer in answers) == [False] + [True] * 4
    assert late == (HTTPStatus.ACCEPTED, {"job": f"upload:{sha256(PICTURE)}", "duplicate": True})
    assert not again
    assert record.payload == {"sha256": sha256(PICTURE)}
    assert store.get(record.output) == THUMBNAIL
    assert store.written.count(record.output) == 1


async def test_a_store_that_fails_is_asked_again(example: Any, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED-110: and what it has not taken is not half there."""
    await example.receive(PICTURE, store)
    put, refused = store.put, [ConnectionError("503 slow down"), ConnectionError("503 slow down")]

    def refusing(address: str, content: bytes) -> None:
        if refused:
            raise refused.pop()
        put(address, content)

    monkeypatch.setattr(store, "put", refusing)
    (record,) = (await drain(example.app, until="ended", deps=store)).completed

    assert record.attempts == 3
    assert store.get(record.output) == THUMBNAIL
    assert len([path for path in store.folder.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no picture"),
        (b"GIF89a", "no picture"),
        (PICTURE[:-1], "not the whole"),
        (PICTURE + b"\0", "not the whole"),
        (b"P5 0 9 255\n", "not the whole"),
    ],
)
async def test_a_broken_upload_is_a_dead_letter_after_one_attempt(
    example: Any, store: Any, body: bytes, reason: str
) -> None:
    """SEED-110."""
    status, _ = await example.receive(body, store)
    (record,) = (await drain(example.app, until="ended", deps=store)).failed
    [letter] = await example.app.dead_letters.list()

    assert status == HTTPStatus.ACCEPTED
    assert (letter.job_id, letter.attempts, letter.reason) == (record.id, 1, "permanent")
    assert reason in letter.error["message"]
    assert store.get(f"originals/{sha256(body)}") == body, "an operator may look at it"


async def test_a_worker_that_dies_leaves_the_same_files(example: Any, store: Any) -> None:
    """SEED-110."""
    await example.receive(PICTURE, store)

    def files() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in store.folder.rglob("*") if path.is_file()}

    await run_twice(example.make_thumbnail, example.Upload(sha256=sha256(PICTURE)), outside=files, deps=store)

    assert len(files()) == 2


async def test_what_is_too_large_is_neither_stored_nor_a_job(example: Any, store: Any) -> None:
    status, _ = await example.receive(bytes(example.MOST_BYTES + 1), store)

    assert status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert not store.written
    assert len(await example.app.list()) == 0
