"""Where the server may be put, and who can reach it there (A53)."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import redis

from embedded.processes import answers_with, never_ready, record_of
from taurine.embedded import EmbeddedServer
from taurine.embedded import keeper as keeper_module
from taurine.errors import EmbeddedServerError


def mode_of(path: str | Path) -> int:
    return stat.S_IMODE(os.lstat(path).st_mode)


def refused(directory: Path, *, because: str) -> None:
    with pytest.raises(EmbeddedServerError, match=because):
        EmbeddedServer(directory).start_sync()


def test_only_this_user_can_reach_the_server(home: Path) -> None:
    with EmbeddedServer(home) as server:
        assert server.url == f"unix://{home}/valkey.sock"
        assert mode_of(home) == 0o700
        assert mode_of(server.socket) == 0o600
        files = [path for path in home.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"keeper.json", "users.lock", "valkey.log"}
        assert {path.name: mode_of(path) for path in files if mode_of(path) & 0o077} == {}
        with redis.Redis.from_url(server.url) as client:
            assert client.config_get("port") == {b"port": b"0"} or client.config_get("port") == {"port": "0"}


def test_what_is_kept_is_kept_safely(home: Path) -> None:
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

    with (
        EmbeddedServer(home, fsync="always") as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_the_socket_is_private_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        with EmbeddedServer(home) as server:
            assert mode_of(home) == 0o700
            assert mode_of(server.socket) == 0o600
    finally:
        os.umask(before)


def test_a_relative_directory_stays_where_it_was_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parent.mkdir(exist_ok=True)
    monkeypatch.chdir(home.parent)
    server = EmbeddedServer("home")
    monkeypatch.chdir("/")

    with server:
        assert server.directory == home
        assert server.socket.startswith(str(home))


@pytest.mark.parametrize("name", ["with space", "quo'te\"s", "per%20cent?db=3#x", "ünï", "--port", "line\nbreak"])
def test_any_name_will_do(home: Path, name: str) -> None:
    with EmbeddedServer(home.parent / name) as server, redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    with EmbeddedServer(home.parent / name) as server:
        assert answers_with(server.url, "key") == "value"


def test_a_deep_directory_has_its_socket_in_a_private_place_elsewhere(home: Path) -> None:
    deep = home.parent / ("d" * 60) / ("e" * 60)
    with EmbeddedServer(deep) as server, EmbeddedServer(deep) as other:
        place = Path(server.socket).parent
        assert len(server.socket) < 100
        assert place.parent == Path(tempfile.gettempdir()).resolve()
        assert mode_of(place) == 0o700
        assert mode_of(server.socket) == 0o600
        assert server.url == other.url
        answers_with(other.url, "key")

    assert not place.exists(), "the last user leaves nothing among the temporary files"


def test_a_deep_directorys_socket_is_not_put_where_others_wait_for_it(home: Path) -> None:
    deep = home.parent / ("d" * 120)
    with EmbeddedServer(deep):
        record = record_of(deep)
    trap = home.parent / "trap"
    trap.mkdir()
    trap.chmod(0o777)
    keeper_module.write_record(deep, record._replace(socket=f"{trap}/valkey.sock", server=None))

    with EmbeddedServer(deep) as server:
        assert Path(server.socket).parent != trap


def test_a_copied_directory_does_not_take_the_originals_socket(home: Path) -> None:
    deep, copy = home.parent / ("d" * 120), home.parent / ("c" * 120)
    with EmbeddedServer(deep) as server:
        copy.mkdir(mode=0o700)
        (copy / "keeper.json").write_text((deep / "keeper.json").read_text())
        with EmbeddedServer(copy) as other:
            assert other.url != server.url
            assert other.pid != server.pid


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777])
def test_a_directory_that_others_can_write_to_is_refused(home: Path, mode: int) -> None:
    home.mkdir()
    home.chmod(mode)

    refused(home, because=f"other users can write to {home} .*chmod go-w")
    assert list(home.iterdir()) == []


def test_a_directory_that_others_can_only_read_is_accepted(home: Path) -> None:
    home.mkdir(mode=0o755)

    with EmbeddedServer(home) as server:
        assert mode_of(server.socket) == 0o600


def test_data_that_others_can_write_to_is_refused(home: Path) -> None:
    (home / "valkey").mkdir(parents=True)
    home.chmod(0o700)
    (home / "valkey").chmod(0o777)

    refused(home, because="other users can write to .*/valkey ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(home: Path) -> None:
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)

    refused(home, because="belongs to user 65534, and this process runs as user 0")


def test_a_directory_that_anyone_could_replace_is_refused(home: Path) -> None:
    open_to_all = home / "open"
    open_to_all.mkdir(parents=True)
    open_to_all.chmod(0o777)

    refused(open_to_all / "below" / "home", because=f"any user could replace .* {open_to_all} has mode 0777")

    open_to_all.chmod(0o1777)
    with EmbeddedServer(open_to_all / "below" / "home") as server:
        answers_with(server.url, "key")


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_a_symbolic_link_is_refused(home: Path, target: str) -> None:
    elsewhere = home.parent / "elsewhere"
    elsewhere.mkdir()
    home.symlink_to(home.parent / target)

    refused(home, because="is a symbolic link|cannot make the directory")
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("name", ["users.lock", "start.lock", "keeper.lock", "valkey.log"])
def test_a_symbolic_link_in_place_of_a_file_is_refused(home: Path, name: str) -> None:
    home.mkdir(mode=0o700)
    victim = home.parent / "victim"
    (home / name).symlink_to(victim)

    refused(home, because=f"{name} is a symbolic link")
    assert not victim.exists()


def test_something_else_in_place_of_the_socket_is_refused(home: Path) -> None:
    home.mkdir(mode=0o700)
    (home / "valkey.sock").symlink_to(home.parent / "victim")

    refused(home, because=r"valkey\.sock is not a socket")


def test_a_file_in_place_of_the_directory_is_refused(home: Path) -> None:
    home.write_text("")

    refused(home, because=f"cannot make the directory {home}")


def test_a_program_that_is_no_server_is_an_error_at_once(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="the server ended before it was ready"):
        EmbeddedServer(home, binary="/bin/false").start_sync()


def test_a_server_that_does_not_get_ready_is_an_error_in_time(home: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"not ready after 0\.5 s \(start_timeout\)"):
        EmbeddedServer(home, binary=never_ready(home), start_timeout=0.5).start_sync()


def test_the_keeper_keeps_nothing_of_its_makers_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAURINE_SECRET", "hidden")

    with EmbeddedServer(home) as server:
        for pid in (record_of(home).keeper, server.pid):
            assert b"hidden" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_the_log_is_bounded(home: Path) -> None:
    home.mkdir(mode=0o700)
    log = home / "valkey.log"
    log.write_text("x" * (keeper_module.LOG_LIMIT_BYTES + 1))

    with EmbeddedServer(home):
        assert log.stat().st_size < keeper_module.LOG_LIMIT_BYTES
        assert (home / "valkey.log.1").stat().st_size > keeper_module.LOG_LIMIT_BYTES
