"""URLs of servers and databases: what of them may be shown."""

from __future__ import annotations

import re
from urllib.parse import unquote_plus

__all__ = ["SCHEME", "masked_url"]

SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://", re.ASCII)
"""The beginning of a URL, with its scheme as the first group."""

_SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key|user|credential", re.IGNORECASE)


def masked_url(url: str) -> str:
    """`url` for messages and logs: credentials before the host are `***`, and so are secret values in the query.

    A text that is no URL is masked whole, since it may be a password in the wrong place. In doubt too much is masked:
    everything up to the last `@`, because passwords hold characters that URLs should not.
    """
    scheme = SCHEME.match(url)
    if scheme is None:
        return "***"
    head, at, tail = url[scheme.end() :].rpartition("@")
    address, question, query = (tail if at else head + tail).partition("?")
    parameters = "&".join(_masked_parameter(parameter) for parameter in query.split("&"))
    return f"{scheme.group()}{'***@' if at else ''}{address}{question}{parameters}"


def _masked_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}=***" if equals and _SECRET_PARAMETER.search(unquote_plus(name)) else parameter
