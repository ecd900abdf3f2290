"""The secret that signs: given, from the environment, or, in development, one that is made in the application's `home`."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.http.access.access import Access
    from taurine.settings import Settings

__all__ = ["secret_in", "signing_secrets"]


def signing_secrets(access: Access, settings: Settings) -> tuple[str, ...]:
    """The secrets, the one that signs first; none where there is none.

    Raises InvalidOption for a file in `home` that others can read.
    """
    if access.secrets:
        return access.secrets
    if settings.secret is not None:
        return (settings.secret.get_secret_value(),)
    return (secret_in(settings.home),) if settings.env == "dev" else ()


def secret_in(home: Path) -> str:
    """The secret of a developer's machine, in `home/secret`, mode 0600; made at the first call, by one process.

    Raises InvalidOption for a file that others can read.
    """
    path = home / "secret"
    if not path.exists():
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    mode = path.lstat().st_mode
    if not stat.S_ISREG(mode) or mode & 0o077:
        raise InvalidOption(
            f"expected {path} to be a file that its owner alone can read; remove it, and a new one is made"
        )
    return path.read_text("ascii").strip()


def _make(path: Path) -> None:
    """Under another name first: who finds the file finds all of it."""
    draft = path.with_name(f"secret.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another process was first: its secret counts
            os.link(draft, path)
    finally:
        draft.unlink()
