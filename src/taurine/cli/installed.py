"""What a command needs beside Taurine itself."""

from __future__ import annotations

from importlib.util import find_spec

from taurine.errors import InvalidOption

__all__ = ["has_http", "refuse_without_http"]


def has_http() -> bool:
    """Whether the extra `http` is installed."""
    return all(find_spec(module) is not None for module in ("fastapi", "uvicorn", "argon2", "itsdangerous"))


def refuse_without_http(command: str) -> None:
    """Raise InvalidOption, which says how to install it, where it is not."""
    if not has_http():
        raise InvalidOption(f'`taurine {command}` needs the extra http: pip install "taurine[http]"')
