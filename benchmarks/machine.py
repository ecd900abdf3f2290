"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import BULLMQ, NODE, Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.server import Server


def describe(server: Server, peers: Sequence[Peer]) -> dict[str, str]:
    """Names and values, in the order in which they are shown."""
    facts = {
        "CPU": f"{_cpu_model()}, {os.cpu_count()} cores",
        "System": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Server": server.version,
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }
    if BULLMQ in peers:
        version = subprocess.run([*NODE, "--version"], capture_output=True, text=True, check=True)
        facts["Node"] = version.stdout.strip().removeprefix("v")
    packages = {name: version for peer in peers for name, version in peer.versions().items()}
    facts["Packages"] = ", ".join(f"{name} {version}" for name, version in packages.items())
    return facts


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
