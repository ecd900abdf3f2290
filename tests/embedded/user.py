"""A process that uses an embedded server: `user.py DIRECTORY`.

It starts, prints one line with the server's process id and URL, and stops when its standard input has a line or ends.
With a number as a second argument, it starts and stops that many times instead, counting each use on the server.
"""

from __future__ import annotations

import sys

import redis

from taurine.embedded import EmbeddedServer


def use_once(directory: str) -> None:
    with EmbeddedServer(directory) as server:
        print(server.pid, server.url, flush=True)
        sys.stdin.readline()


def use_often(directory: str, rounds: int) -> None:
    for _ in range(rounds):
        with EmbeddedServer(directory, start_timeout=60) as server, redis.Redis.from_url(server.url) as client:
            client.incr("uses")


if __name__ == "__main__":
    if len(sys.argv) == 2:
        use_once(sys.argv[1])
    else:
        use_often(sys.argv[1], int(sys.argv[2]))
