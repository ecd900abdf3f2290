"""Unpack Debian's Prometheus and promtool below .cache/prometheus, for the tests that use them.

Installs nothing; needs apt-get and dpkg-deb.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PLACE = Path(__file__).parents[1] / ".cache" / "prometheus"


def main() -> int:
    """Unpack it, unless it is there."""
    if (PLACE / "usr" / "bin" / "promtool").exists():
        return 0
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        sys.stderr.write("this machine has no apt-get and dpkg-deb: put prometheus and promtool on the path\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                ["apt-get", "-qq", "download", "prometheus"],
                cwd=folder,
                check=True,
                timeout=60,
                stderr=subprocess.DEVNULL,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            sys.stderr.write("Debian's package prometheus cannot be had here; the tests that need it say so\n")
            return 1
        (package,) = Path(folder).glob("prometheus_*.deb")
        PLACE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["dpkg-deb", "-x", str(package), str(PLACE)], check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
