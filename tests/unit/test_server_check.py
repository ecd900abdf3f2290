"""Which servers are warned of: memory policy and version, from the text of INFO. BMQ-144."""

from __future__ import annotations

import re

import pytest

from taurine.queue.server_check import _eviction, _version, parse_info


def test_info_is_taken_apart() -> None:
    text = "# Server\r\nredis_version:7.2.4\r\nexecutable:/a:b\r\n\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n"
    assert parse_info(text) == {"redis_version": "7.2.4", "executable": "/a:b", "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    ("policy", "warned"),
    [("noeviction", False), ("allkeys-lru", True), ("volatile-lru", True), ("volatile-ttl", True)],
)
def test_memory_policies(policy: str, warned: bool) -> None:
    assert (_eviction({"maxmemory_policy": policy}) is not None) == warned
    assert _eviction({}) is None


@pytest.mark.parametrize(
    ("info", "warning"),
    [
        ({"redis_version": "6.0.9"}, "older than 7.0.0"),
        ({"redis_version": "7.0.15"}, "no more security fixes"),
        ({"redis_version": "7.2.4"}, "upgrade to 7.2.15"),
        ({"redis_version": "7.2.15"}, None),
        ({"redis_version": "8.9.0"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.0"}, "valkey 8.1.0.*upgrade to 8.1.7"),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.7"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, None),
        ({"redis_version": "7.2.4", "valkey_version": "10.0.0"}, None),
        ({"redis_version": "odd"}, None),
        ({}, None),
    ],
)
def test_versions(info: dict[str, str], warning: str | None) -> None:
    said = _version(info)
    if warning is None:
        assert said is None
    else:
        assert said is not None
        assert re.search(warning, said)
