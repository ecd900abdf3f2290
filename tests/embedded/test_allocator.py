"""The allocator's setting reaches the server, and a setting of the user's own stays."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from taurine.embedded import EmbeddedServer
from taurine.embedded.allocator import with_allocator


def test_a_setting_that_is_there_stays() -> None:
    assert with_allocator({"GLIBC_TUNABLES": "glibc.malloc.check=3"}) == {"GLIBC_TUNABLES": "glibc.malloc.check=3"}


def test_other_variables_are_kept() -> None:
    assert with_allocator({"TZ": "UTC"})["TZ"] == "UTC"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_the_server_runs_with_it(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None
        environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")

    assert b"GLIBC_TUNABLES=glibc.malloc.tcache_count=1000" in environment
