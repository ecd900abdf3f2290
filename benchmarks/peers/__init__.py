"""The libraries that are measured, and what each can do."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_BULK = frozenset({"add_many"})
ROOT = Path(__file__).parents[2]
NODE = (sys.executable, str(ROOT / "tools" / "node.py"), "node")
BULLMQ_MANIFEST = ROOT / "node_modules" / "bullmq" / "package.json"


@dataclass(frozen=True)
class Peer:
    """One column of the table.

    lacks: actions that the library has no call for.
    jobs_share: its share of the jobs that BullMQ and Taurine get, so that a slow library does not hold up the run.
    on_bullmq_wire: its keys are BullMQ's, so that what it did can be checked on the server.
    """

    key: str
    title: str
    command: Sequence[str]
    packages: Sequence[str] = ()
    lacks: frozenset[str] = frozenset()
    jobs_share: float = 1.0
    on_bullmq_wire: bool = False

    def can(self, action: str) -> bool:
        return action not in self.lacks

    def missing(self) -> str | None:
        """Why it cannot run here; None when it can."""
        if self.key == BULLMQ.key:
            return _node_missing()
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return f"the package {package} is not installed"
        return None

    def versions(self) -> dict[str, str]:
        """Names and versions of what is measured."""
        if self.key == BULLMQ.key:
            return {"bullmq on npm": json.loads(BULLMQ_MANIFEST.read_text())["version"]}
        return {package: importlib.metadata.version(package) for package in self.packages}


def _node_missing() -> str | None:
    if subprocess.run([*NODE, "--version"], capture_output=True, check=False).returncode:
        return "there is no Node 20 or later"
    if not BULLMQ_MANIFEST.exists():
        return "its packages are not installed; run: npm ci --ignore-scripts"
    return None


def _module(name: str) -> Sequence[str]:
    return (sys.executable, "-m", f"benchmarks.peers.{name}")


BULLMQ = Peer("bullmq", "BullMQ on Node", (*NODE, "benchmarks/node/bullmq.mjs"), on_bullmq_wire=True)
TAURINE = Peer("taurine", "Taurine", _module("taurine_queue"), ("taurine", "redis", "hiredis"), on_bullmq_wire=True)
TAURINE_UVLOOP = Peer(
    "taurine-uvloop",
    "Taurine + uvloop",
    (*TAURINE.command, "--uvloop"),
    ("taurine", "uvloop"),
    on_bullmq_wire=True,
)
BULLMQ_PYTHON = Peer(
    "bullmq-python", "BullMQ on Python", _module("bullmq_python"), ("bullmq",), jobs_share=0.2, on_bullmq_wire=True
)
STREAQ = Peer("streaq", "streaq", _module("streaq_worker"), ("streaq",), jobs_share=0.2)
ARQ = Peer("arq", "arq", _module("arq_worker"), ("arq",), NO_BULK, jobs_share=0.1)
SAQ = Peer("saq", "SAQ", _module("saq_worker"), ("saq",), NO_BULK, jobs_share=0.1)
TASKIQ = Peer("taskiq", "taskiq", _module("taskiq_worker"), ("taskiq", "taskiq-redis"), NO_BULK, jobs_share=0.1)
DRAMATIQ = Peer(
    "dramatiq",
    "dramatiq",
    _module("dramatiq_worker"),
    ("dramatiq",),
    # Its calls block, so there is nothing to await together.
    NO_BULK | {"add_concurrent"},
    jobs_share=0.1,
)

ALL: tuple[Peer, ...] = (BULLMQ, TAURINE, TAURINE_UVLOOP, BULLMQ_PYTHON, STREAQ, ARQ, SAQ, TASKIQ, DRAMATIQ)
