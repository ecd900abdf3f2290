"""A command that has ended, and running one in the process of the tests."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from taurine.cli.program import program

__all__ = ["Ended", "ended_here"]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def ended_here(
    words: Sequence[str], stdin: str, variables: Mapping[str, str], folder: Path, *, both_as_one: bool = False
) -> Ended:
    """What `taurine` does with these words; to be called in a thread that has no event loop, since it makes one.

    both_as_one: stderr is written where stdout is, as on a terminal. Default: False.

    It finds the working directory, the variables, the imported modules and the warnings as a process of its own would,
    and leaves them as they were.
    """
    out = io.StringIO()
    err = out if both_as_one else io.StringIO()
    code: object = 0
    with (
        as_of_its_own(variables, folder),
        patch("sys.stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            program(list(words), prog_name="taurine")
        except SystemExit as ended:
            code = ended.code or 0
    assert isinstance(code, int)
    return Ended(code, out.getvalue(), "" if both_as_one else err.getvalue())


@contextlib.contextmanager
def as_of_its_own(variables: Mapping[str, str], folder: Path) -> Generator[None]:
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, variables, clear=True),
        patch.object(sys, "path", [*sys.path]),
        patch.object(sys, "dont_write_bytecode", True),  # a file that is written anew within a second would not be read
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("default")
        importlib.invalidate_caches()
        before = set(sys.modules)
        try:
            yield
        finally:
            for name, module in list(sys.modules.items()):
                if name not in before and (getattr(module, "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[name]
