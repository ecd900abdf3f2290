"""Settings of an application: arguments first, then variables of the environment, then defaults.

Nothing is read on import; `Settings.read` reads, once, and what it returns does not change. A process that needs two
sets (an API with short time-outs and a worker) reads twice. No file is read: a `.env` in the folder of the moment would
be a surprise.

| setting | variable | default |
|---|---|---|
| `redis_url` | `TAURINE_REDIS_URL`, else `REDIS_URL` | none: an embedded Valkey server, which an application refuses to use in production |
| `database_url` | `TAURINE_DATABASE_URL` | none: SQLite in `home` |
| `home` | `TAURINE_HOME` | `.taurine` |
| `prefix` | `TAURINE_PREFIX` | `bull` |
| `concurrency` | `TAURINE_CONCURRENCY` | 5 |
| `lease` | `TAURINE_LEASE`, seconds | 30 |
| `env` | `TAURINE_ENV`: `dev`, `production` | `dev` |
| `cron_secret` | `CRON_SECRET`, 16 characters or more | none |
| `secret` | `TAURINE_SECRET` | none: in dev, one that is made in `home` when it is needed |
| `log_format` | `TAURINE_LOG_FORMAT`: `console`, `json` | `console` in dev, `json` in production |

An empty variable counts as none. Where a variable names a server and a process must not use it, the words "embedded"
for `redis_url` and "sqlite" (or "embedded") for `database_url`, as arguments or variables, mean the default: what runs
by itself in `home`. Secrets are masked wherever settings or their errors are shown.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Mapping
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from taurine.errors import InvalidOption, TaurineWarning, did_you_mean
from taurine.ids import check_prefix
from taurine.options import Seconds
from taurine.urls import SCHEME, masked_url

__all__ = ["Environment", "LogFormat", "Settings"]

Environment: TypeAlias = Literal["dev", "production"]
LogFormat: TypeAlias = Literal["console", "json"]

MAX_CONCURRENCY = 10_000
_SHORTEST_LEASE = 0.1
_LONGEST_LEASE = 86_400.0
_SHORTEST_CRON_SECRET = 16

_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "redis_url": ("TAURINE_REDIS_URL", "REDIS_URL"),
    "database_url": ("TAURINE_DATABASE_URL",),
    "home": ("TAURINE_HOME",),
    "prefix": ("TAURINE_PREFIX",),
    "concurrency": ("TAURINE_CONCURRENCY",),
    "lease": ("TAURINE_LEASE",),
    "env": ("TAURINE_ENV",),
    "cron_secret": ("CRON_SECRET",),
    "secret": ("TAURINE_SECRET",),
    "log_format": ("TAURINE_LOG_FORMAT",),
}
"""The variables of each setting; the first that is set counts."""

_OTHER_VARIABLES = ("TAURINE_APP",)
"""What other parts read."""

_EXPECTED: Mapping[str, str] = {
    "redis_url": "a URL such as redis://localhost:6379, rediss://… or unix:///path, or 'embedded'",
    "database_url": "a URL such as postgresql://user@host/name or sqlite:///path/file.db, or 'sqlite'",
    "home": "the path of a folder",
    "prefix": "a printable key prefix",
    "concurrency": f"a whole number from 1 to {MAX_CONCURRENCY}",
    "lease": f"seconds from {_SHORTEST_LEASE:g} to {_LONGEST_LEASE:g}",
    "env": "'dev' or 'production'",
    "cron_secret": f"a text of {_SHORTEST_CRON_SECRET} characters or more",
    "secret": "a text of 32 characters or more",
    "log_format": "'console' or 'json'",
}

_NUMBERS = ("concurrency", "lease")
_NUMBER = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,6})?")
_WORDS: Mapping[str, tuple[str, ...]] = {
    "redis_url": ("embedded",),
    "database_url": ("sqlite", "embedded"),
    "env": ("dev", "production"),
    "log_format": ("console", "json"),
}

_REDIS_SCHEMES = ("redis", "rediss", "unix")
_DRIVERS: Mapping[str, str] = {
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
}
"""The scheme of a database's URL, with the driver that Taurine works with."""

_PREFIX = "TAURINE_"
_SSL_MODE = re.compile(r"(?<=[?&])sslmode=")


def _checked_redis_url(url: str) -> str:
    scheme = SCHEME.match(url)
    if scheme is None or scheme.group(1).lower() not in _REDIS_SCHEMES:
        raise ValueError(_EXPECTED["redis_url"])
    try:
        _ = urlsplit(url).port
    except ValueError:
        fault = f"{_EXPECTED['redis_url']}; a password's special characters must be percent-encoded"
    else:
        return url
    raise ValueError(fault)  # outside of the handler: urlsplit's message holds what it took for the port


def _database_url_with_driver(url: str) -> str:
    scheme = SCHEME.match(url)
    driver = None if scheme is None else _DRIVERS.get(scheme.group(1).lower())
    if scheme is None or driver is None:
        raise ValueError(
            f"{_EXPECTED['database_url']}; no other database or driver is supported, and the driver may be left out"
        )
    rest = url[scheme.end() :]
    if driver.startswith("postgresql"):
        # libpq's name of the parameter, which hosts of databases hand out; asyncpg takes the same words under `ssl`.
        return f"{driver}://{_SSL_MODE.sub('ssl=', rest)}"
    path, _, query = rest.partition("?")
    if not path.strip("/") or ":memory:" in path or "mode=memory" in query:
        raise ValueError("a file such as sqlite:///path/file.db; a database in memory would lose accepted jobs")
    if not path.startswith("/"):
        raise ValueError("a file: sqlite:/// before a relative path, and sqlite://// before an absolute one")
    return f"{driver}://{rest}"


def _or_in_home(setting: str) -> BeforeValidator:
    """Makes None of the words for what runs in `home`: a variable may name another server, and None is not to give any."""
    return BeforeValidator(lambda value: None if value in _WORDS[setting] else value)


def _refuse_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(_EXPECTED["concurrency"])
    return value


RedisUrl: TypeAlias = Annotated[str, AfterValidator(_checked_redis_url)]
DatabaseUrl: TypeAlias = Annotated[str, AfterValidator(_database_url_with_driver)]


def _variable(name: str) -> AliasChoices:
    return AliasChoices(*_VARIABLES[name])


def _log_format(known: dict[str, Any]) -> LogFormat:
    return "json" if known.get("env") == "production" else "console"


class Settings(BaseSettings):
    """The settings of one application, checked. Make them with `Settings.read`.

    Some values differ from what was given: `database_url` names its driver, `home` has `~` expanded, and the words for
    a default are None.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_file=None,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        loc_by_alias=False,
        populate_by_name=True,
    )

    redis_url: Annotated[RedisUrl | None, _or_in_home("redis_url"), Field(validation_alias=_variable("redis_url"))] = (
        None
    )
    """Redis or Valkey: `redis://`, `rediss://` or `unix://`. None: an embedded server."""
    database_url: Annotated[
        DatabaseUrl | None, _or_in_home("database_url"), Field(validation_alias=_variable("database_url"))
    ] = None
    """PostgreSQL (`postgresql+asyncpg://`) or SQLite (`sqlite+pysqlite:///`). None: SQLite in `home`."""
    home: Annotated[Path, Field(validation_alias=_variable("home")), AfterValidator(Path.expanduser)] = Path(".taurine")
    """The folder of the embedded server and of SQLite."""
    prefix: Annotated[str, Field(validation_alias=_variable("prefix")), AfterValidator(check_prefix)] = "bull"
    """What every key of the queues starts with."""
    concurrency: Annotated[
        int, BeforeValidator(_refuse_bool), Field(validation_alias=_variable("concurrency"), ge=1, le=MAX_CONCURRENCY)
    ] = 5
    """Jobs that a worker runs at a time."""
    lease: Annotated[
        float, Field(validation_alias=_variable("lease"), ge=_SHORTEST_LEASE, le=_LONGEST_LEASE, allow_inf_nan=False)
    ] = 30.0
    """Seconds that a claimed job stays a worker's without renewal."""
    env: Annotated[Environment, Field(validation_alias=_variable("env"))] = "dev"
    """Where this runs; in `production` an application needs a `redis_url`, and the dashboard is off by default."""
    cron_secret: Annotated[
        SecretStr | None, Field(validation_alias=_variable("cron_secret"), min_length=_SHORTEST_CRON_SECRET)
    ] = None
    """What callers of the HTTP cron route must present; 16 characters or more. None: that route answers nobody."""
    secret: Annotated[SecretStr | None, Field(validation_alias=_variable("secret"), min_length=32)] = None
    """What public tokens, and the steps of a login elsewhere, are signed with; 32 characters or more. None: see
    `Access.secret`.
    """
    log_format: Annotated[LogFormat, Field(validation_alias=_variable("log_format"), default_factory=_log_format)]
    """How log lines look."""

    @classmethod
    def read(
        cls,
        *,
        redis_url: str | None = None,
        database_url: str | None = None,
        home: str | Path | None = None,
        prefix: str | None = None,
        concurrency: int | None = None,
        lease: Seconds | None = None,
        env: Environment | None = None,
        cron_secret: str | SecretStr | None = None,
        secret: str | SecretStr | None = None,
        log_format: LogFormat | None = None,
    ) -> Settings:
        """The settings of this moment: what is given here, else the environment's, else the defaults.

        None means not given.

        Raises InvalidOption for a value out of its range, which names the argument or variable and never shows a
        secret. Warns of a variable that starts with `TAURINE_` and looks like a misspelt one; others that are unknown
        are left alone.
        """
        arguments: dict[str, Any] = {
            "redis_url": redis_url,
            "database_url": database_url,
            "home": home,
            "prefix": prefix,
            "concurrency": concurrency,
            "lease": lease.total_seconds() if isinstance(lease, timedelta) else lease,
            "env": env,
            "cron_secret": cron_secret,
            "secret": secret,
            "log_format": log_format,
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        for misspelt, known in _misspelt_variables(os.environ):
            warnings.warn(f"the variable {misspelt} is not read; did you mean {known}?", TaurineWarning, stacklevel=2)
        try:
            return cls(**given)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
        # Outside of the handler, so that no report of this error finds the other, which may hold the value.
        raise InvalidOption(_message(str(problem["loc"][0]), problem.get("ctx", {}).get("error"), given))

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            is_url = name in ("redis_url", "database_url") and isinstance(value, str)
            yield name, masked_url(value) if is_url else value


def _misspelt_variables(environment: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    names = [*(name for names in _VARIABLES.values() for name in names), *_OTHER_VARIABLES]
    known = {name.removeprefix(_PREFIX): name for name in reversed(names)}  # our REDIS_URL before the common one
    for name in environment:
        if name.startswith(_PREFIX) and name not in names:
            # The common beginning is left out: with it all names look alike.
            near = get_close_matches(name.removeprefix(_PREFIX), known, n=1, cutoff=0.75)
            if near:
                yield name, known[near[0]]


def _message(setting: str, reason: object, given: Mapping[str, Any]) -> str:
    if setting in given:
        name, value = setting, given[setting]
    else:
        name = next((name for name in _VARIABLES[setting] if os.environ.get(name)), setting)
        value = os.environ.get(name)
    # The validators of this file raise plain ValueErrors whose text says what is expected, and nothing of the value.
    expected = str(reason) if type(reason) is ValueError else _EXPECTED[setting]
    return f"expected {name} to be {expected}; got {_shape(setting, value)}"


def _shape(setting: str, value: object) -> str:
    """What may be said of a bad value. Its text may be a secret in the wrong place, so that is not shown."""
    if isinstance(value, int | float):
        return repr(value)
    if not isinstance(value, str):
        return f"a value of type {type(value).__name__}"
    if setting in _NUMBERS and _NUMBER.fullmatch(value):
        return value
    if not value:
        return "an empty text"
    hint = did_you_mean(value.lower(), _WORDS.get(setting, ()))
    scheme = SCHEME.match(value)
    return f"a text of {len(value)} characters{f' that starts with {scheme.group():.20}' if scheme else ''}{hint}"
