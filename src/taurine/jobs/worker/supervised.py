"""The program of a supervised process: `python -m taurine.jobs.worker.supervised "module:attribute" [ARGUMENT …]`.

Calls the attribute with the arguments, as text, and awaits what it returns where that can be awaited. A whole number
that comes of it is the exit code.

Where the supervisor dies without a word, this process hears of it by its lifeline, a pipe that closes then, and gets
SIGTERM as if from the supervisor; after TAURINE_LIFELINE_GRACE seconds (default: 30) it is ended whatever it does.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Sequence
from functools import reduce
from typing import Any

from taurine.errors import InvalidOption
from taurine.jobs.worker.supervisor import LIFELINE, LIFELINE_GRACE, READINESS

__all__ = ["is_starting", "main", "report_ready"]

log = logging.getLogger("taurine.jobs")


def main(arguments: Sequence[str]) -> int:
    """Run `module:attribute`, the first argument, with the others; returns the exit code.

    Raises InvalidOption when there is none.
    """
    _hold_lifeline()
    result = _find(arguments[0] if arguments else "")(*arguments[1:])
    if inspect.isawaitable(result):
        result = asyncio.run(_awaited(result))
    return result if isinstance(result, int) else 0


def report_ready() -> None:
    """Tell the supervisor that this process has started: a crash from now on is no start failure.

    Does nothing without a supervisor, and when repeated.
    """
    descriptor = os.environ.pop(READINESS, None)
    if descriptor is not None:
        os.write(int(descriptor), b"1")
        os.close(int(descriptor))


def is_starting() -> bool:
    """True in a supervised process that has not reported yet."""
    return READINESS in os.environ


def _find(target: str) -> Any:
    module, colon, name = target.partition(":")
    if not (module and colon and name):
        raise InvalidOption(f"expected 'module:attribute' to run, got {target!r}")
    return reduce(getattr, name.split("."), importlib.import_module(module))


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value


def _hold_lifeline() -> None:
    descriptor = os.environ.pop(LIFELINE, None)
    grace = float(os.environ.pop(LIFELINE_GRACE, "30"))
    if descriptor is None:
        return  # started by hand
    for inherited in (descriptor, os.environ.get(READINESS)):
        if inherited is not None:
            os.set_inheritable(int(inherited), False)
    threading.Thread(target=_watch, args=(int(descriptor), grace), name="taurine-lifeline", daemon=True).start()


def _watch(descriptor: int, grace: float) -> None:
    os.read(descriptor, 1)  # nothing is ever written: this returns when the supervisor is gone
    log.error("the supervisor is gone; this process ends")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    log.error("this process did not end within %g s and is ended", grace)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
