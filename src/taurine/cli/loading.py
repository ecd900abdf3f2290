"""Finding the application that a command works on."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

import taurine
from taurine.app import Taurine
from taurine.errors import InvalidOption, did_you_mean

__all__ = ["load_app", "refuse_without_types"]


def load_app(place: str | None) -> Taurine:
    """The application at `module:name`; for None one without job types, from the settings of the environment: enough to
    look at records.

    Modules are looked for in the working directory too. Raises InvalidOption, which says what cannot be loaded and why.
    """
    if place is None:
        return Taurine("taurine")
    module_name, separator, path = place.partition(":")
    if not separator or not module_name or not path:
        raise InvalidOption(f"expected an application as module:name, for example shop.jobs:app, got {place!r:.80}")
    module = found = _module_at(module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            applications = [known for known, value in vars(module).items() if isinstance(value, Taurine)]
            near = did_you_mean(name, applications) or (f"; there is {applications[0]!r}" if applications else "")
            raise InvalidOption(f"there is no {path!r:.80} in the module {module_name!r:.80}{near}")
        found = getattr(found, name)
    if not isinstance(found, Taurine):
        raise InvalidOption(f"expected {place!r:.80} to be a Taurine, got {type(found).__name__}")
    return found


def refuse_without_types(app: Taurine, place: str | None) -> None:
    """Raise InvalidOption for an application that declares no job type, and say which one to name."""
    if len(app.catalog):
        return
    if place is None:
        raise InvalidOption(
            "this command needs the application with its job types: taurine --app module:name …, for example shop.jobs:app, or the variable TAURINE_APP"
        )
    raise InvalidOption(f"the application {place!r:.80} declares no job type; does its module import those that do?")


def _module_at(name: str) -> object:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InvalidOption(
            f"the module {name!r:.80} cannot be imported: {type(error).__name__}: {error}{_where(error)}"
        ) from error


def _where(error: Exception) -> str:
    """The last place in the user's own code that an error came through; nothing where the error itself says it, or there
    is none.
    """
    if isinstance(error, SyntaxError):
        return ""
    working_directory = Path.cwd()
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        file = Path(frame.filename)
        if file.is_relative_to(working_directory) and not _is_library(file):
            return f"; at {file.relative_to(working_directory)}:{frame.lineno}, and `taurine --debug …` shows all of it"
    return ""


def _is_library(file: Path) -> bool:
    return "site-packages" in file.parts or file.is_relative_to(Path(taurine.__file__).parent)
