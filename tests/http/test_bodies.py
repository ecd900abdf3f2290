"""What comes in: A01 to A08, A38, SEED-224."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from support.api import Client, problem
from taurine.app import Taurine
from taurine.errors import PayloadError
from taurine.http import create_app
from taurine.jobs.catalog.strict_json import decode_strictly

JSON = {"Content-Type": "application/json"}
PATH = "/v1/jobs/thing.keep"


async def send(client: Client, body: bytes | AsyncIterator[bytes], **headers: str) -> Any:
    return await client.post(PATH, content=body, headers={**JSON, **headers})


async def kept(client: Client, app: Taurine, payload: str) -> Any:
    """What the record has of a payload, which goes as this text."""
    answer = await send(client, f'{{"payload": {payload}}}'.encode())
    assert answer.status_code == 202, answer.text
    record = await app.get(answer.json()["id"])
    assert record is not None
    return record


# Size -----------------------------------------------------------------------------------------------------------------------------------


async def test_a_body_above_the_cap_is_not_read(app: Taurine, client_of: Callable[..., Client]) -> None:
    """A01: by its Content-Length, before a byte of it."""
    client = client_of(app, max_body=1000)
    answer = await send(client, b'{"payload": "' + b"x" * 1000 + b'"}')

    assert problem(answer) == (413, "body_too_large")
    assert "1,000 bytes" in answer.json()["detail"]
    assert (await send(client, b'{"payload": "' + b"x" * 900 + b'"}')).status_code == 202


async def test_a_body_without_a_length_is_read_up_to_the_cap(app: Taurine) -> None:
    """A01: chunks for ever."""
    given = 0

    async def receive() -> Message:
        nonlocal given
        given += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    status, _ = await call(create_app(app, max_body=1000), receive)
    assert (status, given) == (413, 11)


async def test_a_body_that_does_not_arrive_is_given_up(app: Taurine) -> None:
    """A38: half-open uploads."""
    first = True

    async def receive() -> Message:
        nonlocal first
        if not first:
            await asyncio.Event().wait()
        first = False
        return {"type": "http.request", "body": b"{", "more_body": True}

    status, headers = await call(create_app(app, body_within=0.01), receive)
    assert (status, headers[b"connection"]) == (408, b"close")


async def test_a_client_that_goes_meanwhile_is_answered_nothing(app: Taurine) -> None:
    messages = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    assert await call(create_app(app), receive) == (None, {})


async def call(api: Any, receive: Any) -> tuple[int | None, dict[bytes, bytes]]:
    """Send a POST whose body `receive` gives; returns the status and the headers."""
    sent: list[Message] = []

    async def send_it(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "raw_path": PATH.encode(),
        "root_path": "",
        "query_string": b"",
        "scheme": "http",
        "http_version": "1.1",
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
    }
    await api(scope, receive, send_it)
    return (sent[0]["status"], dict(sent[0]["headers"])) if sent else (None, {})


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
async def test_encodings_are_off(client: Client, encoding: str) -> None:
    """A02: a small body never becomes a large one."""
    body = b'{"payload": "' + b"0" * 1_000_000 + b'"}'
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    answer = await send(client, packed, **{"Content-Encoding": encoding})

    assert problem(answer) == (415, "unsupported_media_type")


async def test_a_payload_above_its_types_limit_is_told_to_be_stored_elsewhere(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    """SEED-224."""
    app = app_factory()
    app.declare("small", str, max_bytes=100)
    answer = await client_of(app).enqueue("small", "x" * 200)

    assert problem(answer) == (413, "payload_too_large")
    assert "store it elsewhere and pass its id" in answer.json()["detail"]


# Kind -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml", ""],
)
async def test_a_body_that_is_not_called_json_is_told_how_to_call_it(client: Client, kind: str) -> None:
    answer = await client.post(PATH, content=b'{"payload": 1}', headers={"Content-Type": kind} if kind else {})
    assert problem(answer) == (415, "unsupported_media_type")
    assert "Content-Type: application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
async def test_json_by_its_other_names(client: Client, kind: str) -> None:
    answer = await client.post(PATH, content=b'{"payload": 1}', headers={"Content-Type": kind})
    assert answer.status_code == 202


# Content ----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"payload":' * 90_000, b"[" * 202 + b"]" * 202])
async def test_a_deep_body_is_refused(client: Client, body: bytes) -> None:
    """A03."""
    answer = await send(client, body)
    assert problem(answer) == (400, "malformed_body")
    assert "deeper than 200 levels" in answer.json()["detail"]


async def test_brackets_inside_of_text_are_not_levels(client: Client) -> None:
    assert (await send(client, b'{"payload": "' + b"[" * 1000 + b'"}')).status_code == 202


async def test_a_number_of_a_million_digits_is_refused(client: Client) -> None:
    """A04."""
    answer = await send(client, b'{"payload": ' + b"9" * 1_000_000 + b"}")
    assert problem(answer) == (400, "malformed_body")


UNHOLDABLE = {
    "NaN": "NaN",
    "infinity": "-Infinity",
    "a number above the largest": "1e999",
    "half a pair": r'"\ud800"',
    "half a pair in a name": r'{"\udc00": 1}',
    "a null character": r'"a\u0000"',
    "a name twice": '{"a": 1, "b": {}, "a": 2}',
    "a name twice, deep down": '[{"a": {"x": 1, "x": 1}}]',
    "a control character": '"a\nb"',
}


@pytest.mark.parametrize("payload", UNHOLDABLE.values(), ids=list(UNHOLDABLE))
async def test_what_cannot_be_kept_exactly_is_refused_by_one_rule(client: Client, payload: str) -> None:
    """A05: in the body as a whole, so in metadata as well; and for the same reader in the library."""
    for body in (f'{{"payload": {payload}}}', f'{{"payload": 1, "metadata": {{"x": {payload}}}}}'):
        assert problem(await send(client, body.encode())) == (400, "malformed_body")
    with pytest.raises(PayloadError):
        decode_strictly(payload.encode())


@pytest.mark.parametrize("payload", [float("nan"), float("inf"), "\ud800", "a\0"], ids=repr)
async def test_the_library_refuses_the_same_values(app: Taurine, payload: Any) -> None:
    """A05."""
    with pytest.raises(PayloadError):
        await app.enqueue("thing.keep", {"x": [payload]})


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"payload": 1} x', b"'a'", b'{"a": 01}', b"{,}"]
)
async def test_a_body_that_is_no_json_is_told_where(client: Client, body: bytes) -> None:
    assert problem(await send(client, body)) == (400, "malformed_body")


@pytest.mark.parametrize("body", [b"null", b"1", b'"payload"', b"[]", b"{}"])
async def test_a_body_that_is_no_envelope_is_told_what_is_missing(client: Client, body: bytes) -> None:
    assert problem(await send(client, body)) == (400, "invalid_request")


@pytest.mark.parametrize("payload", ["9007199254740993", "-18446744073709551617", "1" * 4000, "0.1", "1e-7", "-0.0"])
async def test_numbers_are_kept_exactly(client: Client, app: Taurine, payload: str) -> None:
    """A06."""
    record = await kept(client, app, f'{{"x": {payload}}}')
    assert record.payload == json.loads(f'{{"x": {payload}}}')
    shown = (await client.get(f"/v1/jobs/{record.id}")).text
    assert payload in shown or float(payload) == record.payload["x"]


@pytest.mark.parametrize("payload", ["{}", "[]", '{"a":{},"b":[]}', "[[],{}]", "null", "false", '""'])
async def test_empty_is_kept_as_it_is(client: Client, app: Taurine, payload: str) -> None:
    """A07: an empty list is no empty object."""
    record = await kept(client, app, payload)
    assert record.payload_json == payload
    assert f'"payload":{payload}' in (await client.get(f"/v1/jobs/{record.id}")).text


@pytest.mark.parametrize(
    "payload",
    [
        '{"py/object":"os.system","py/reduce":[{"py/function":"os.system"},{"py/tuple":["id"]}]}',
        '{"__class__":"subprocess.Popen","args":["id"]}',
        '{"$ref":"file:///etc/passwd","$type":"System.Diagnostics.Process"}',
        '"!!python/object/apply:os.system [id]"',
        '"gASVHwAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAJpZJSFlFKULg=="',
        '{"constructor":{"prototype":{"x":1}},"__proto__":{"y":2}}',
    ],
)
async def test_data_stays_data(client: Client, app: Taurine, payload: str) -> None:
    """A08."""
    assert (await kept(client, app, payload)).payload_json == payload


# Anything at all --------------------------------------------------------------------------------------------------------------------------


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_what_is_json_is_read_as_it_is_or_refused(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    try:
        read = decode_strictly(text.encode())
    except (PayloadError, UnicodeEncodeError):
        return
    assert read == json.loads(text)


@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\u0dD8-9ENan.+e \n', max_size=60).map(str.encode))
def test_the_reader_fails_in_one_way_only(text: bytes) -> None:
    """A fuzz run: whatever it is, it is read, or refused with an error of ours."""
    try:
        value = decode_strictly(text)
    except PayloadError:
        return
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
