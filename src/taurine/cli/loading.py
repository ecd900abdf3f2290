"""Finding the application that a command works on."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from taurine.app import Taurine
from taurine.errors import InvalidOption

__all__ = ["load_app"]


def load_app(place: str | None) -> Taurine:
    """The application at `module:name`; for None one without job types, from the settings of the environment: enough to look at records.

    Modules are looked for in the working directory too. Raises InvalidOption, which says what cannot be loaded and why.
    """
    if place is None:
        return Taurine("taurine")
    module_name, separator, path = place.partition(":")
    if not separator or not module_name or not path:
        raise InvalidOption(f"expected an application as module:name, for example shop.jobs:app, got {place!r:.80}")
    found = _module_at(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise InvalidOption(f"there is no {path!r:.80} in the module {module_name!r:.80}")
        found = getattr(found, name)
    if not isinstance(found, Taurine):
        raise InvalidOption(f"expected {place!r:.80} to be a Taurine, got {type(found).__name__}")
    return found


def _module_at(name: str) -> object:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InvalidOption(f"the module {name!r:.80} cannot be imported: {type(error).__name__}: {error}") from error
