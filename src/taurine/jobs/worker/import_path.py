"""Where another process finds an application: the module to import, and its name in there.

A script's own module has no name that others could import, so it is looked up as what it is besides: `python -m
shop.worker` is `shop.worker`, and `python worker.py` is `worker`, in the folder that Python puts at the head of its
path.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from taurine.errors import InvalidOption

__all__ = ["application_at", "import_path_of"]

_MAIN = "__main__"


def import_path_of(application: object, made_in: str) -> str:
    """`module:name` of an application. made_in: the module that made it.

    Looks for a global of that module, then of the program's own. Raises InvalidOption when it is in neither, or when no
    other process can import that.
    """
    for module_name in dict.fromkeys((made_in, _MAIN)):
        module = sys.modules.get(module_name)
        name = next((name for name, value in vars(module).items() if value is application), None) if module else None
        if module is not None and name is not None:
            return f"{_importable_name(module) if module_name == _MAIN else module_name}:{name}"
    raise InvalidOption(
        f"worker processes must be able to import the application, and it is no global of the module {made_in!r} that made it; "
        "put it there, or say where it is: Taurine(…, import_path='module:name')"
    )


def application_at(import_path: str) -> Any:
    """What is at `module:name`.

    Raises InvalidOption for another form of text and when the name is not there, and what the import raises.
    """
    module_name, colon, name = import_path.partition(":")
    if not (module_name and colon and name):
        raise InvalidOption(f"expected import_path to be 'module:name', got {import_path!r:.200}")
    try:
        return getattr(import_module(module_name), name)
    except AttributeError as error:
        raise InvalidOption(f"there is no {name!r} in the module {module_name!r}") from error


def _importable_name(main: ModuleType) -> str:
    """The name under which another process may import the program's own module."""
    if main.__spec__ is not None and main.__spec__.name != _MAIN:
        return main.__spec__.name  # started by `python -m`
    file = getattr(main, "__file__", None)
    if file is None:
        raise InvalidOption(
            "worker processes must be able to import the application, and no file holds the code of this session; put it into a module"
        )
    name = Path(file).stem
    spec = find_spec(name) if name.isidentifier() and name != _MAIN else None
    if spec is None or spec.origin is None or not Path(spec.origin).samefile(file):
        raise InvalidOption(
            f"worker processes must be able to import the application, and {file} cannot be imported by its name; "
            "put the application into a module, or say where it is: Taurine(…, import_path='module:name')"
        )
    return spec.name
