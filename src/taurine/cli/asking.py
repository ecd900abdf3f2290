"""Asking before something is done that cannot be taken back."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.cli.output import Output

__all__ = ["confirmed"]


def confirmed(output: Output, question: str, *, yes: bool) -> bool:
    """True when the user wants it, or has said so beforehand with --yes. question: what is about to happen.

    Raises InvalidOption where there is nobody to ask: a script must say --yes.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InvalidOption(f"{question} There is no terminal to ask on; say --yes")
    output.ask(f"{question} [y/N] ")
    if _answer().strip().lower() in ("y", "yes"):
        return True
    output.note("Nothing was changed.")
    return False


def _answer() -> str:
    # An event loop takes a Ctrl-C for itself and acts on it when it is next at work; here it waits for a line.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, handler)
