"""Where a server's answer ends in the bytes that it has sent, for tests that cut it at every place."""

from __future__ import annotations

__all__ = ["first_reply", "until_over"]

_READY_OUTSIDE_A_TRANSACTION = b"Z\x00\x00\x00\x05I"


def first_reply(received: bytes) -> int:
    """Redis: the length of the first reply in the bytes, or 0 while it is not whole."""
    try:
        return _end_of_reply(received, 0)
    except ValueError:
        return 0


def _end_of_reply(received: bytes, start: int) -> int:
    end = received.index(b"\r\n", start) + 2
    kind, size = received[start : start + 1], received[start + 1 : end - 2]
    if kind == b"$":
        return received.index(b"\r\n", end + int(size)) + 2 if size != b"-1" else end
    for _ in range(int(size) if kind == b"*" else 0):
        end = _end_of_reply(received, end)
    return end


def until_over(received: bytes) -> int:
    """PostgreSQL: the length of all answers up to the end of the transaction, or 0 while that is not told."""
    end = received.find(_READY_OUTSIDE_A_TRANSACTION)
    return end + len(_READY_OUTSIDE_A_TRANSACTION) if end >= 0 else 0
