"""Naming a handler so that another process finds it: by its module and its name there, never by its code."""

from __future__ import annotations

import importlib
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from taurine.errors import InvalidOption
from taurine.jobs.executors.frames import Message

__all__ = ["Target", "check_importable", "check_named", "find", "main_module", "run_main_module"]

_MAIN_IN_CHILD = "__mp_main__"
"""What `__main__` is called in a process that only needs its functions: the name that multiprocessing uses, which
guards in scripts know.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a handler is: `module`, the dotted `name` in it, and how often to follow `__wrapped__` from what stands
    there.

    A decorator may leave an object under the function's name; as functools.wraps has it, its `__wrapped__` is what it
    was made of.
    """

    module: str
    name: str
    unwrap: int = 0

    def __str__(self) -> str:
        return f"{self.module}:{self.name}"


def check_named(handler: Callable[..., Any]) -> Target:
    """Where `handler` will be, by its names; for the moment of its decoration, when its module is not complete.

    Raises InvalidOption for what another process can never find: a lambda, a function inside a function, an object
    without a name.
    """
    module, name = getattr(handler, "__module__", None), getattr(handler, "__qualname__", None)
    if not module or not name:
        raise InvalidOption(
            f"{handler!r:.80} cannot run in a process of its own: it has no name to be found by; use a plain function"
        )
    if "<lambda>" in name or "<locals>" in name:
        kind = "a lambda" if name.endswith("<lambda>") else "defined inside a function"
        raise InvalidOption(
            f"{module}:{name} cannot run in a process of its own: it is {kind}, which another process cannot import; "
            "define it at the top of a module, or use runs_in='thread'"
        )
    return Target(module, name)


def check_importable(handler: Callable[..., Any]) -> Target:
    """Where another process finds `handler`, proved here.

    Raises InvalidOption when something else, or nothing, is there.
    """
    target = check_named(handler)
    if target.module == "__main__":
        main_module()
    try:
        found = find(target)
    except (ImportError, AttributeError) as error:
        raise InvalidOption(f"{target} cannot run in a process of its own: {error}") from error
    for depth, layer in enumerate(_layers(found)):
        if layer is handler:
            return Target(target.module, target.name, depth)
    raise InvalidOption(
        f"{target} cannot run in a process of its own: another object stands there, {found!r:.80}; "
        "a decorator must keep the function as its `__wrapped__`"
    )


def find(target: Target) -> Any:
    """What stands at `target`, before its `__wrapped__` is followed. Raises what the import raises, and AttributeError."""
    module: Any = importlib.import_module(target.module)
    return reduce(getattr, target.name.split("."), module)


def handler_of(found: Any, target: Target) -> Callable[..., Any]:
    """The handler in what `find` has found."""
    for _ in range(target.unwrap):
        found = found.__wrapped__
    return found


def main_module() -> Message | None:
    """How another process repeats this one's `__main__`.

    Raises InvalidOption for a session or a string of code, which no file holds.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return {"module": spec.name}
    path = getattr(main, "__file__", None)
    if path is None or not Path(path).exists():
        raise InvalidOption(
            "a handler of __main__ cannot run in a process of its own here, since no file holds its code; put it into a module"
        )
    return {"path": str(Path(path).absolute())}


def run_main_module(main: Message) -> None:
    """Run the other process's main file under another name, so that its guard keeps it from doing its work, and let it
    be our `__main__`.
    """
    module = types.ModuleType(_MAIN_IN_CHILD)
    if "module" in main:
        content = runpy.run_module(main["module"], run_name=_MAIN_IN_CHILD, alter_sys=True)
    else:
        content = runpy.run_path(main["path"], run_name=_MAIN_IN_CHILD)
    module.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[_MAIN_IN_CHILD] = module


def _layers(found: Any) -> Iterator[Any]:
    for _ in range(100):  # a chain that bites its tail must not hang the check
        yield found
        if (found := getattr(found, "__wrapped__", None)) is None:
            return
