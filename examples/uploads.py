"""A picture that is stored when it is uploaded, and made small by a job: once for each content, however often it is sent.

    python examples/uploads.py

The hash of the content is the job's id and the name of both files, so whoever sends a picture again gets the thumbnail that is there. A picture that cannot be read
never will be: its job fails at once, and its dead letter keeps the reason. `receive` is what the route of a web framework would call.
"""

import asyncio
import hashlib
import json
import re
import secrets
from http import HTTPStatus
from pathlib import Path

from pydantic import BaseModel, Field

from taurine import Context, LedgerUnavailable, Permanent, Taurine

MOST_BYTES = 8_000_000
SIDE = 8  # pixels

app = Taurine("album")
app.queue("uploads", concurrency=4)


class Upload(BaseModel):
    # With tenants, put theirs before it in the id: else one learns from `duplicate` what another has.
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Store:
    """In place of an object store: what is put there is there whole, or not at all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.written: list[str] = []

    def put(self, address: str, content: bytes) -> None:
        target = self.folder / address
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}")  # two may send the same picture at once
        part.write_bytes(content)
        part.replace(target)
        self.written.append(address)

    def get(self, address: str) -> bytes:
        return (self.folder / address).read_bytes()


def smaller(picture: bytes) -> bytes:
    """In place of an imaging library: every n-th pixel of a grey picture in the format PGM."""
    header = re.match(rb"P5\s(\d{1,5})\s(\d{1,5})\s255\s", picture)
    if header is None:
        raise Permanent("this is no picture")
    width, height = int(header[1]), int(header[2])
    pixels = picture[header.end() :]
    if not pixels or len(pixels) != width * height:
        raise Permanent(f"this is not the whole of a picture of {width} x {height} pixels")
    rows = [pixels[start : start + width] for start in range(0, len(pixels), width)]
    step = max(1, -(-max(width, height) // SIDE))
    small = [row[::step] for row in rows[::step]]
    return b"P5 %d %d 255\n" % (len(small[0]), len(small)) + b"".join(small)


@app.job("upload.thumbnail", queue="uploads", job_id="upload:{sha256}")
def make_thumbnail(upload: Upload, ctx: Context) -> str:
    store: Store = ctx.deps
    address = f"thumbnails/{upload.sha256}.pgm"
    # A worker may die after this and before the job is recorded as completed: then the same file is written again.
    store.put(address, smaller(store.get(f"originals/{upload.sha256}")))
    return address


async def receive(body: bytes, store: Store) -> tuple[HTTPStatus, dict[str, object]]:
    """The route: stored, committed, answered. The payload has the picture's name, and not the picture."""
    if len(body) > MOST_BYTES:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": f"at most {MOST_BYTES} bytes"}
    upload = Upload(sha256=hashlib.sha256(body).hexdigest())
    # First the file: a job without one would fail. A file without a job waits for the client to send it again.
    await asyncio.to_thread(store.put, f"originals/{upload.sha256}", body)
    try:
        handle = await make_thumbnail.enqueue(upload, source="POST /uploads")
    except LedgerUnavailable:
        return HTTPStatus.SERVICE_UNAVAILABLE, {"error": "send it again"}
    return HTTPStatus.ACCEPTED, {"job": handle.id, "duplicate": handle.duplicate}


async def main() -> None:
    store = Store(app.settings.home / "album")
    picture = b"P5 32 16 255\n" + bytes(range(256)) * 2
    async with app, app.worker(deps=store):
        for body in (picture, picture, picture[:-100]):
            status, answer = await receive(body, store)
            print(status.value, json.dumps(answer))
            record = await app.wait(str(answer["job"]), timeout=30)
            if record is not None and record.status == "completed":
                print("  ", record.output)
            for letter in await app.dead_letters.list(job_id=str(answer["job"])):
                print(f"   dead after {letter.attempts} attempt: {letter.error['message']}")
    print(sum(address.startswith("thumbnails/") for address in store.written), "thumbnails made")


if __name__ == "__main__":
    asyncio.run(main())
