"""What stands in a job's hash: JSON in, JSON out, and the stored form of options.

One rule for values that JSON cannot hold alike on both sides: NaN, infinities and lone surrogates are refused. Keys
that are numbers become strings, as JSON has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from json import encoder as json_encoder
from typing import Any

from taurine.errors import PayloadError

__all__ = ["Encoded", "decode_json", "encode_json", "encode_text", "keep_policy", "require_encodable"]

_decode: Callable[[str], Any] = json.JSONDecoder().decode


class Encoded(str):
    """JSON text that is to be stored as it is: a value that a layer above has encoded already."""

    __slots__ = ()


def _refuse(value: object) -> None:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _make_encoder() -> Callable[[Any], str]:
    # JSONEncoder.encode makes its C encoder anew for each value, which costs more than the encoding of a small one. The maker is not
    # documented, so where it is missing the documented way does the same.
    make: Any = getattr(json_encoder, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
    escape = json_encoder.encode_basestring
    pieces: Callable[[Any, int], tuple[str, ...]] = make(None, _refuse, escape, None, ":", ",", False, False, False)
    return lambda value: "".join(pieces(value, 0))


_encoder = _make_encoder()

_MAX_TEXT = 64 * 1024


def encode_json(value: Any, what: str = "job data") -> str:
    """`value` as JSON text. Raises PayloadError, naming `what`, for a value that JSON cannot hold."""
    if value is None:
        return "null"
    if type(value) is Encoded:
        return value
    try:
        text = _encoder(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PayloadError(
            f"{what} cannot be stored as JSON: {error}; pass plain dicts, lists, strings, numbers, booleans and None"
        ) from None
    require_encodable(text, what)
    return text


def decode_json(text: str | bytes) -> Any:
    """The value of JSON text. Raises ValueError for text that is no JSON, or bytes that are no UTF-8."""
    return _decode(text.decode() if isinstance(text, bytes) else text)


def require_encodable(text: str, what: str) -> None:
    """Raise PayloadError, naming `what`, for text that UTF-8 cannot hold."""
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise PayloadError(f"{what} holds half of a surrogate pair, which UTF-8 cannot store") from None


def encode_text(text: str, *, limit: int = _MAX_TEXT) -> str:
    """`text` as it can be stored: unencodable characters replaced, cut with a mark above `limit` characters."""
    if len(text) > limit:
        text = f"{text[:limit]}… (cut, {len(text)} characters)"
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def keep_policy(count: int | None, age_ms: int | None, limit: int | None) -> str:
    """A retention policy as the scripts read it."""
    return f"{'' if count is None else count}:{'' if age_ms is None else age_ms}:{'' if limit is None else limit}"
