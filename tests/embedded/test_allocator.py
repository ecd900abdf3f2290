"""The server runs with the allocator that it is given, and a setting of the user's own stays."""

from __future__ import annotations

import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from taurine.embedded import EmbeddedServer, allocator
from taurine.embedded.allocator import with_allocator
from taurine.embedded.binary import find_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' loaders know no LD_PRELOAD")


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "LD_PRELOAD"])
def test_a_setting_that_is_there_stays(name: str) -> None:
    assert with_allocator({name: "mine"}, program=find_server())[name] == "mine"


def test_other_variables_are_kept() -> None:
    assert with_allocator({"TZ": "UTC"}, program=find_server())["TZ"] == "UTC"


def test_the_server_runs_with_it(tmp_path: Path) -> None:
    """Loaded, and not only asked for: the loader passes over what it cannot load."""
    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None
        libraries = Path(f"/proc/{server.pid}/maps").read_text()
        environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")

    assert "libmimalloc" in libraries
    assert any(entry.startswith(b"GLIBC_TUNABLES=glibc.malloc.tcache_count=1000") for entry in environment)


def test_a_server_of_another_origin_keeps_its_own(tmp_path: Path) -> None:
    """One that was built with jemalloc would give mimalloc's blocks to jemalloc."""
    other = tmp_path / "valkey-server"
    shutil.copy(find_server(), other)

    assert "LD_PRELOAD" not in with_allocator({}, program=str(other))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(allocator, "distribution", missing)
    environment = with_allocator({}, program=find_server())
    assert "GLIBC_TUNABLES" in environment
    assert "LD_PRELOAD" not in environment

    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None
        assert "libmimalloc" not in Path(f"/proc/{server.pid}/maps").read_text()


def test_a_path_that_the_loader_would_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Elsewhere:
        def locate_file(self, path: str) -> Path:
            assert distribution("cmeel-mimalloc").locate_file(path)
            place = tmp_path / "my venv" / "libmimalloc.so"
            place.parent.mkdir()
            place.touch()
            return place

    monkeypatch.setattr(allocator, "distribution", lambda _: Elsewhere())

    assert "LD_PRELOAD" not in with_allocator({}, program=find_server())
