"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.cli.output import Output

__all__ = ["confirmed", "password_of"]


def confirmed(output: Output, question: str, *, yes: bool) -> bool:
    """True when the user wants it, or has said so beforehand with --yes. question: what is about to happen.

    Raises InvalidOption where there is nobody to ask: a script must say --yes.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidOption(f"{question} There is no terminal to ask on; say --yes")
    with _interruptible():
        output.ask(f"{question} [y/N] ")
        answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return True
    output.note("Nothing was changed.")
    return False


def password_of(name: str) -> str:
    """The password for somebody: asked for twice on a terminal, without showing it; elsewhere the first line of stdin.

    Raises InvalidOption where the two differ.
    """
    from getpass import getpass

    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    with _interruptible():
        first, second = getpass(f"Password for {name}: "), getpass("The same again: ")
    if first != second:
        raise InvalidOption("the two passwords differ; nothing was changed")
    return first


@contextmanager
def _interruptible() -> Generator[None]:
    """An event loop takes a Ctrl-C for itself and acts on it when it is next at work; here it waits for a line.

    Entered before the question is seen: who presses it at once would wait for ever.
    """
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
