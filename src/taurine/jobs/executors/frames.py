"""The language between a worker and its processes: JSON objects, each after its length in four bytes, over a socket
pair.

The member `type` says what a message is.

To the process: `hello` (what it needs to start), `run` (one attempt), `cancel` (the attempt is to stop), `reply` (to a
request), `exit` (end when idle).
From it: `ready` or `not_started`, `began` (the attempt is taken on), `ended` (its value or error, and the memory in
use), `notify` (something that the handler said), `request` (something that it asks), `log` (a log record).
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, TypeAlias

from taurine.errors import PayloadTooLarge

__all__ = ["Message", "encode_frame", "read_frame", "receive_frame"]

Message: TypeAlias = dict[str, Any]

_LENGTH = struct.Struct("!I")

MAX_FRAME = 256 * 1024 * 1024
"""Bytes. A longer message is a result that belongs elsewhere, or no message at all."""


def encode_frame(message: Message) -> bytes:
    """The bytes of a message. Raises PayloadTooLarge above 256 MiB."""
    body = json.dumps(message, separators=(",", ":")).encode()
    if len(body) > MAX_FRAME:
        raise PayloadTooLarge(f"a message of {len(body)} bytes does not go between processes; at most {MAX_FRAME} do")
    return _LENGTH.pack(len(body)) + body


async def read_frame(reader: asyncio.StreamReader) -> Message | None:
    """The next message, or None when the other side is gone."""
    try:
        size = _size(await reader.readexactly(_LENGTH.size))
        return json.loads(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def receive_frame(channel: socket.socket) -> Message | None:
    """The same for code without an event loop."""
    head = _receive(channel, _LENGTH.size)
    body = _receive(channel, _size(head)) if head else None
    return json.loads(body) if body else None


def _size(head: bytes) -> int:
    size = _LENGTH.unpack(head)[0]
    if size > MAX_FRAME:
        raise ConnectionError(f"the other side does not speak our language: a message of {size} bytes")
    return size


def _receive(channel: socket.socket, size: int) -> bytes | None:
    received = bytearray()
    while len(received) < size:
        try:
            part = channel.recv(min(size - len(received), 1 << 20))
        except ConnectionError:
            return None
        if not part:
            return None
        received += part
    return bytes(received)
