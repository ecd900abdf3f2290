"""The memory allocator of the server.

The wheel's server uses the C library's allocator. A queue frees and takes thousands of small blocks a millisecond, and
once the cache for blocks of one size is empty, glibc hands out the one that was freed longest ago: on a server that holds
much, or once did, that is memory that nothing has touched for long. So the server is started with mimalloc in its place,
which keeps free blocks by the page and fills one page before it goes to the next.
A drained job's cost to the server, in turns on one machine: 16 µs instead of 20 when it is new, 19 instead of 24 beside a
million waiting jobs; and once it had held those, 16 instead of 25 from then on.
While the log is rewritten beside 600,000 jobs and a busy worker, 16 MB of memory are copied instead of 98, a ping's
slowest hundredth takes 4 ms instead of 8, and the worker does twice the jobs.
Source: D. Leijen, B. Zorn and L. de Moura, "Mimalloc: Free List Sharding in Action", APLAS 2019, which measures Redis
too; Valkey's own trial is in its pull request 363.

Only the wheel's server, and not the keeper: a server that was built with an allocator of its own calls it by names that a
preloaded library does not have, and would give blocks of the one to the other. And only after a trial: the loader passes
over a library that is missing, but ends the program when something is missing that the library needs, and mimalloc needs
libatomic, which slim images do not have.

Where mimalloc is not loaded, another setting counts (it does in the figures above): glibc is told to keep 1,000 freed
blocks of each size at hand instead of 7, which takes a tenth off a turn, or a third beside a million jobs; the price is
up to some 35 MB that are not given back.

A long queue is more memory than the processor's page tables cache, and nearly every step of a turn reaches a part of it
that nothing has touched for long. Both allocators ask for large pages, where the kernel is set to "madvise", as
distributions ship it: a tenth of a turn beside a million jobs, and a third of the time that a fork for the log's rewrite
takes. The price is known from Redis: while a rewrite runs, the first write to a page copies 2 MB instead of 4 KB.
Measured on glibc with a million jobs and a busy worker, one rewrite of a second: the slowest hundredth of the commands
took 35 ms instead of 15, the slowest of all 30 to 45 ms with either, and the memory copied was the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from taurine.embedded.binary import is_from_wheel

__all__ = ["mimalloc_for", "with_allocator"]

_PACKAGE = "cmeel-mimalloc"
_LIBRARY = "cmeel.prefix/lib/libmimalloc.so"

_OF_GLIBC = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=1000:glibc.malloc.hugetlb=1"}

_TRIAL_SECONDS = 10.0


def with_allocator(environment: Mapping[str, str], *, preload: str = "") -> dict[str, str]:
    """`environment` for a server, with a library to load first, if any; a setting that is there already stays."""
    return {**_OF_GLIBC, **({"LD_PRELOAD": preload} if preload else {}), **environment}


def mimalloc_for(program: str) -> str:
    """The path of the library to preload into the server `program`; empty where there is none, or it cannot be used."""
    if sys.platform != "linux" or not is_from_wheel(program):
        return ""
    try:
        library = Path(str(distribution(_PACKAGE).locate_file(_LIBRARY))).absolute()
    except PackageNotFoundError:
        return ""
    # Spaces and colons separate libraries in LD_PRELOAD, and cannot be escaped.
    if any(mark in str(library) for mark in " :") or not library.is_file():
        return ""
    return str(library) if _starts_with(program, str(library)) else ""


def _starts_with(program: str, library: str) -> bool:
    try:
        trial = subprocess.run(
            [program, "--version"],
            env={"LD_PRELOAD": library},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_TRIAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return trial.returncode == 0
