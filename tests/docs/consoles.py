"""Console blocks of the documentation: their commands, and running them as a terminal does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cli.in_process import ended_here
from embedded.processes import SOURCE

__all__ = ["Step", "differences", "environment_in", "run", "steps"]

_ON_THEIR_OWN = {"worker", "--wait", "--watch"}
"""Those that listen to signals, or wait for others."""


class Step(NamedTuple):
    command: str
    says: list[str]
    """The lines that follow it on the page, where … stands for anything; the last may be its exit code, as [2]."""


def steps(text: str) -> list[Step]:
    """Each command of a page's console blocks, in their order."""
    found: list[Step] = []
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line.removeprefix("$ "), []))
            else:
                found[-1].says.append(line)
    return found


def environment_in(folder: Path) -> dict[str, str]:
    """The variables of a terminal in which `taurine` and `python` are those of this test."""
    for name, words in (("taurine", f'{sys.executable} -m taurine "$@"'), ("python", f'{sys.executable} "$@"')):
        (folder / name).write_text(f"#!/bin/sh\nexec {words}\n", "utf-8")
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": str(SOURCE), "COLUMNS": "160"}


def run(step: Step, folder: Path, environment: dict[str, str]) -> str:
    """Both streams as a terminal shows them, and the exit code in brackets if it is not 0.

    A plain command of ours that ends by itself is run in this process, which is a good deal quicker.
    """
    words = shlex.split(step.command)
    if words[0] == "taurine" and not set(words) & _ON_THEIR_OWN and not re.search(r"[|<>&;$]", step.command):
        with ThreadPoolExecutor(1) as thread:  # where there is no event loop
            here = thread.submit(ended_here, words[1:], "", environment, folder, both_as_one=True).result()
        return here.out + (f"[{here.code}]\n" if here.code else "")
    ended = subprocess.run(
        ["sh", "-c", step.command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout + (f"[{ended.returncode}]\n" if ended.returncode else "")


def differences(step: Step, shown: str) -> str:
    """What was shown instead of what the page says; nothing where they agree.

    How wide a column is depends on what … stands for, so spaces are not counted.
    """
    pattern = "".join(re.escape(_spaced(line)).replace("…", "(?:.|\n)*") + "\n" for line in step.says)
    if re.fullmatch(pattern, _spaced(shown)):
        return ""
    return f"$ {step.command}\n{shown}instead of\n{chr(10).join(step.says)}"


def _spaced(text: str) -> str:
    return re.sub(r" +", " ", text)
