"""What the fixture `taurine_app_factory` gives; here, so that tests can name its type without pytest's plugin being
imported twice.
"""

from __future__ import annotations

from typing import Any, Protocol

from taurine.app import Taurine

__all__ = ["AppFactory"]


class AppFactory(Protocol):
    """Makes applications for a test, on servers and a database of its own. options: those of `Taurine`."""

    def __call__(self, name: str = "test", **options: Any) -> Taurine: ...
