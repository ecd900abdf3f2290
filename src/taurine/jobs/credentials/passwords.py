"""Passwords: what is kept of one is an Argon2id hash, which costs who guesses as much as who knows."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from argon2 import PasswordHasher

__all__ = ["Passwords", "checked_password"]

ResultT = TypeVar("ResultT")

_SHORTEST, _LONGEST = 12, 1024
_AT_ONCE = 2
"""Hashes that one process works out at a time: each takes 64 MiB and a core for some 50 ms."""


class Passwords:
    """Hashes passwords and compares them, in threads. hasher: with other parameters than Argon2's recommended ones."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or _recommended()
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._of_nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The hash to keep."""
        return await self._work(lambda: self._hasher.hash(_plain(password)))

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether this is the password. kept: None for a name that there is not, which takes as long."""
        of_nobody = await self._hash_of_nobody()
        right = await self._work(lambda: self._matches(kept or of_nobody, password))
        return right and kept is not None

    def is_dated(self, kept: str) -> bool:
        """Whether a hash was made with other parameters than are used now."""
        return self._hasher.check_needs_rehash(kept)

    async def _hash_of_nobody(self) -> str:
        if self._of_nobody is None:
            self._of_nobody = await self._work(lambda: self._hasher.hash("nobody has this password"))
        return self._of_nobody

    def _matches(self, kept: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._hasher.verify(kept, _plain(password))
        except (VerificationError, InvalidHashError):
            return False

    async def _work(self, work: Callable[[], ResultT]) -> ResultT:
        async with self._turn:
            return await asyncio.to_thread(work)


def checked_password(password: str) -> str:
    """`password`, if it is long enough to be one; what it is made of is its owner's affair.

    Raises InvalidOption, which does not show it.
    """
    if not isinstance(password, str) or not _SHORTEST <= len(password) <= _LONGEST:  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
        raise InvalidOption(f"expected a password of {_SHORTEST} to {_LONGEST} characters")
    return password


def _plain(password: str) -> str:
    """One form of it, however a keyboard composes its letters."""
    return unicodedata.normalize("NFKC", password)


def _recommended() -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise InvalidOption('passwords need the extra `http`: pip install "taurine[http]"') from None
    return PasswordHasher()
