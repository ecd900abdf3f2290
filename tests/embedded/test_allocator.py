"""The server runs with the allocator that it is given, and starts where that cannot be loaded."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from taurine.embedded import EmbeddedServer, allocator
from taurine.embedded.allocator import mimalloc_for, with_allocator
from taurine.embedded.binary import find_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems' loaders know no LD_PRELOAD")


class Installed:
    """The package, with its library somewhere else."""

    def __init__(self, library: Path) -> None:
        self._library = library

    def locate_file(self, _: str) -> Path:
        return self._library


@pytest.fixture
def mimalloc() -> Path:
    library = mimalloc_for(find_server())
    if not library:
        pytest.skip("mimalloc cannot be loaded: it needs libatomic, of Debian's package libatomic1")
    return Path(library)


def libraries_of(process: int) -> str:
    return Path(f"/proc/{process}/maps").read_text()


def test_what_is_there_stays() -> None:
    given = {"GLIBC_TUNABLES": "glibc.malloc.check=3", "LD_PRELOAD": "mine.so", "TZ": "UTC"}

    assert with_allocator(given, preload="other.so") == given


@pytest.mark.usefixtures("mimalloc")
def test_the_server_runs_with_it_and_its_keeper_does_not(tmp_path: Path) -> None:
    """Loaded, and not only asked for: the loader passes over what is missing."""
    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None
        keeper = int(re.findall(r"PPid:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[0])
        environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")

        assert "libmimalloc" in libraries_of(server.pid)
        assert "libmimalloc" not in libraries_of(keeper)
    assert any(entry.startswith(b"GLIBC_TUNABLES=glibc.malloc.tcache_count=1000") for entry in environment)


@pytest.mark.usefixtures("mimalloc")
def test_a_server_of_another_origin_keeps_its_own(tmp_path: Path) -> None:
    """One that was built with jemalloc would give mimalloc's blocks to jemalloc."""
    other = tmp_path / "valkey-server"
    shutil.copy(find_server(), other)

    assert not mimalloc_for(str(other))


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(allocator, "distribution", missing)
    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None
        assert "libmimalloc" not in libraries_of(server.pid)


def test_a_library_that_lacks_one_of_its_own(mimalloc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Libatomic is not on every image, and the loader ends a program that is to preload what cannot be completed."""
    library = tmp_path / "libmimalloc.so"
    library.write_bytes(mimalloc.read_bytes().replace(b"libatomic.so.1", b"libmissing.so9"))
    monkeypatch.setattr(allocator, "distribution", lambda _: Installed(library))

    assert not mimalloc_for(find_server())
    with EmbeddedServer(tmp_path / "home") as server:
        assert server.pid is not None


@pytest.mark.parametrize("place", ["my venv", "a:b", "gone"])
def test_a_path_that_the_loader_would_not_find(
    place: str, mimalloc: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / place / "libmimalloc.so"
    if place != "gone":
        library.parent.mkdir()
        shutil.copy(mimalloc, library)
    monkeypatch.setattr(allocator, "distribution", lambda _: Installed(library))

    assert not mimalloc_for(find_server())
