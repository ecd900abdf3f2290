"""What must not be shown: secrets and personal data in log lines, in errors that are kept with records, and in job ids.

A job's payload and result are the product's own data and are stored as they are; whoever shows them asks `Redact.data`
first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2s
from typing import Any, ClassVar, cast

from taurine.errors import InvalidOption

__all__ = ["HIDDEN", "Redact"]

HIDDEN = "[redacted]"

_SECRET_NAMES = (
    *("password", "passwd", "pwd", "passphrase", "secret", "token", "authorization", "cookie", "credentials"),
    *("api_key", "access_key", "private_key", "session_id", "csrf", "jwt", "otp", "cvv", "card_number", "iban", "ssn"),
    *("email", "e_mail"),
)

# They run over text that users write. A long repetition begins only where no other could (the look behind), gives
# nothing back ("++"), and ends where the next one begins, so that each takes time in proportion to the text.
_SECRET_PATTERNS = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?!-----)[\s\S])++-----END [A-Z ]{0,40}PRIVATE KEY-----",
    r"(?<=://)[^/\s:@]{0,200}:[^/\s@]{1,200}(?=@)",  # the user and password of a URL
    r"(?<![\w-])eyJ[\w-]{8,}+\.[\w-]{4,}+\.[\w-]*+",  # a JSON Web Token
    r"(?i)(?<=\bbearer )[\w.~+/=-]{8,}+",
    r"\b(?:sk|pk|rk)_(?:live|test)_\w{8,200}|\bgh[pousr]_\w{20,200}|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,200}",
    r"\btaurine_(?:[0-9a-f]{16}_[0-9a-f]{64}|public_[\w.-]{20,}+)",  # our own keys and public tokens
    r"(?<![\w.+%-])[\w.+%-]++@[\w-]++(?:\.[\w-]++)++",  # an e-mail address
)

_DEEPEST = 50
"""Levels of nested data that are looked through; what is deeper is hidden as a whole."""


class Redact:
    """Rules for what is replaced by `[redacted]`.

    names: fields whose value is hidden, in data and where text says `name=value` or `name: value`. Case, `-` and `_`
    make no difference, and a name counts at the end of a longer one too: `token` covers `accessToken` and
    `X-Auth-Token`, but not `tokens`, which is a count more often.
    patterns: regular expressions; what matches is hidden, wherever it stands.

    `Redact.DEFAULT` knows passwords, tokens, keys, cookies, e-mail addresses and their like; `Redact.DEFAULT.also(…)`
    adds to it; `Redact.NONE` hides nothing.
    Raises InvalidOption for an expression that cannot be compiled.
    """

    DEFAULT: ClassVar[Redact]
    NONE: ClassVar[Redact]

    def __init__(self, *, names: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(map(_plain, names)))
        self.patterns = tuple(dict.fromkeys(patterns))
        if not all(self.names):
            raise InvalidOption("expected the names to redact to have letters or digits, got one that has none")
        self._compiled = [_compiled(pattern) for pattern in self.patterns]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Redact) and (self.names, self.patterns) == (other.names, other.patterns)

    def __hash__(self) -> int:
        return hash((self.names, self.patterns))

    def __repr__(self) -> str:
        return f"Redact(names={self.names!r}, patterns={self.patterns!r})"

    def also(self, *, names: Iterable[str] = (), patterns: Iterable[str] = ()) -> Redact:
        """These rules and more."""
        return Redact(names=(*self.names, *names), patterns=(*self.patterns, *patterns))

    def text(self, text: str) -> str:
        """`text` with what must not be shown replaced."""
        if self._assignment is not None and (":" in text or "=" in text):
            text = self._assignment.sub(_hide_value, text)
        for pattern in self._compiled:
            text = pattern.sub(HIDDEN, text)
        return text

    def data(self, value: Any) -> Any:
        """A copy of JSON-like data with the values of secret fields, and what is secret in its texts, replaced."""
        return self._data(value, _DEEPEST)

    def job_id(self, job_id: str) -> str:
        """A job id as logs may show it.

        One that held something secret ends in a mark that is the same each time, so that its lines are still found
        together.
        """
        hidden = job_id
        for pattern in self._compiled:
            hidden = pattern.sub(HIDDEN, hidden)
        if hidden == job_id:
            return job_id
        return f"{hidden}#{blake2s(job_id.encode(errors='replace'), digest_size=4).hexdigest()}"

    def _data(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if depth == 0:
            return HIDDEN
        if isinstance(value, Mapping):
            members = cast("Mapping[Any, Any]", value)
            return {
                key: HIDDEN if self._is_secret(key) else self._data(member, depth - 1)
                for key, member in members.items()
            }
        if isinstance(value, list | tuple | set | frozenset):
            return [self._data(member, depth - 1) for member in cast("Iterable[Any]", value)]
        return value

    def _is_secret(self, name: Any) -> bool:
        return isinstance(name, str) and self._name is not None and self._name.fullmatch(name) is not None

    @cached_property
    def _name(self) -> re.Pattern[str] | None:
        return re.compile(rf"(?i)[\w-]*?{self._any_name}") if self.names else None

    @cached_property
    def _assignment(self) -> re.Pattern[str] | None:
        if not self.names:
            return None
        # What was hidden before stays as it is: a stored error is looked through again when it is shown.
        value = r"""\[redacted\]|\\?"[^"\n]{0,4000}"?|'[^'\n]{0,4000}'?|(?:(?:basic|bearer|digest)\s)?[^\s,;&"')}\]]{1,4000}"""
        # A name counts at the end of a longer one, whose beginning need not be looked for.
        return re.compile(rf"""(?i)({self._any_name}\\?["']?\s{{0,3}}[:=]\s{{0,3}})({value})""")

    @cached_property
    def _any_name(self) -> str:
        words = "|".join("[-_ ]?".join(map(re.escape, name.split("_"))) for name in self.names)
        return f"(?:{words})"


def _hide_value(match: re.Match[str]) -> str:
    return match[1] + HIDDEN


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]+", "_", name).strip("_").lower()


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidOption(f"expected a regular expression to redact, got {pattern!r:.80}: {error}") from None


Redact.DEFAULT = Redact(names=_SECRET_NAMES, patterns=_SECRET_PATTERNS)
Redact.NONE = Redact()
