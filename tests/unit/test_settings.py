"""Settings: arguments before variables before defaults, and no secret in any text."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from taurine.errors import InvalidOption, TaurineWarning
from taurine.settings import Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("TAURINE_") or name in ("REDIS_URL", "CRON_SECRET"):
            monkeypatch.delenv(name)


def test_without_anything_set_all_is_local_seed_101() -> None:
    settings = Settings.read()
    assert settings.redis_url is None  # an embedded server
    assert settings.database_url is None  # SQLite in home
    assert settings.home == Path(".taurine")
    assert (settings.prefix, settings.concurrency, settings.lease, settings.env) == ("bull", 5, 30.0, "dev")
    assert settings.cron_secret is None


def test_the_store_address_comes_from_redis_url_seed_006_101(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://shared:6379")
    assert Settings.read().redis_url == "redis://shared:6379"


def test_our_own_variable_goes_before_the_common_one_and_an_argument_before_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://shared:6379")
    monkeypatch.setenv("TAURINE_REDIS_URL", "redis://ours:6379")
    assert Settings.read().redis_url == "redis://ours:6379"
    assert Settings.read(redis_url="unix:///run/valkey.sock").redis_url == "unix:///run/valkey.sock"


@pytest.mark.parametrize(
    ("setting", "word"), [("redis_url", "embedded"), ("database_url", "sqlite"), ("database_url", "embedded")]
)
def test_a_word_says_that_it_is_to_be_the_one_in_home(monkeypatch: pytest.MonkeyPatch, setting: str, word: str) -> None:
    """A variable that names a server can be overruled, by an argument and by our own variable."""
    monkeypatch.setenv("REDIS_URL", "redis://shared:6379")
    monkeypatch.setenv("TAURINE_DATABASE_URL", "postgresql://shared/db")
    given: dict[str, Any] = {setting: word}
    assert getattr(Settings.read(**given), setting) is None
    monkeypatch.setenv(f"TAURINE_{setting.upper()}", word)
    assert getattr(Settings.read(), setting) is None


def test_a_misspelt_word_has_its_near_miss() -> None:
    with pytest.raises(InvalidOption, match=r"or 'embedded'; got .* did you mean 'embedded'"):
        Settings.read(redis_url="embeded")


def test_an_empty_variable_counts_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files and shells hand down empty variables for what is not set."""
    monkeypatch.setenv("TAURINE_REDIS_URL", "")
    monkeypatch.setenv("TAURINE_CONCURRENCY", "")
    monkeypatch.setenv("REDIS_URL", "redis://shared:6379")
    settings = Settings.read()
    assert (settings.redis_url, settings.concurrency) == ("redis://shared:6379", 5)


def test_every_variable_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "TAURINE_DATABASE_URL": "sqlite:///a.db",
        "TAURINE_HOME": "/srv/taurine",
        "TAURINE_PREFIX": "{app}",
        "TAURINE_CONCURRENCY": "100",
        "TAURINE_LEASE": "2.5",
        "TAURINE_ENV": "production",
        "CRON_SECRET": "hunter2 and more",
        "TAURINE_LOG_FORMAT": "console",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    assert settings.database_url == "sqlite+pysqlite:///a.db"
    assert settings.home == Path("/srv/taurine")
    assert (settings.prefix, settings.concurrency, settings.lease) == ("{app}", 100, 2.5)
    assert (settings.env, settings.log_format) == ("production", "console")
    assert settings.cron_secret is not None
    assert settings.cron_secret.get_secret_value() == "hunter2 and more"


def test_every_argument_goes_before_its_variable_even_a_bad_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "DATABASE_URL", "PREFIX", "CONCURRENCY", "LEASE", "ENV", "LOG_FORMAT"):
        monkeypatch.setenv(f"TAURINE_{name}", "\n")
    settings = Settings.read(
        redis_url="rediss://r",
        database_url="postgresql://d",
        home="/h",
        prefix="p",
        concurrency=7,
        lease=timedelta(minutes=1),
        env="production",
        cron_secret="s" * 16,
        log_format="console",
    )
    assert (settings.redis_url, settings.database_url) == ("rediss://r", "postgresql+asyncpg://d")
    assert (settings.home, settings.prefix, settings.concurrency, settings.lease) == (Path("/h"), "p", 7, 60.0)
    assert (settings.env, settings.log_format) == ("production", "console")


def test_the_environment_is_read_when_asked_and_not_on_import_and_what_was_read_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import os, taurine.settings as s; os.environ['TAURINE_CONCURRENCY'] = '9'; print(s.Settings.read().concurrency)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TAURINE_CONCURRENCY": "not a number"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "9\n"

    monkeypatch.setenv("TAURINE_CONCURRENCY", "9")
    settings = Settings.read()
    monkeypatch.setenv("TAURINE_CONCURRENCY", "10")
    assert settings.concurrency == 9
    with pytest.raises(ValidationError, match="frozen"):
        settings.concurrency = 10


def test_no_file_of_the_folder_of_the_moment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("TAURINE_CONCURRENCY=99\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.read().concurrency == 5


def test_producer_and_worker_have_settings_of_their_own_seed_007_con_09() -> None:
    producer = Settings.read(redis_url="redis://near-the-api", lease=5)
    worker = Settings.read(redis_url="redis://near-the-workers", concurrency=100)
    assert (producer.redis_url, producer.concurrency) == ("redis://near-the-api", 5)
    assert (worker.redis_url, worker.lease) == ("redis://near-the-workers", 30.0)


def test_a_home_may_begin_with_a_tilde() -> None:
    assert Settings.read(home="~/jobs").home == Path.home() / "jobs"


@pytest.mark.parametrize(("env", "log_format"), [("dev", "console"), ("production", "json")])
def test_log_lines_are_for_machines_in_production(env: Any, log_format: str) -> None:
    assert Settings.read(env=env).log_format == log_format


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("postgres://u:p@h:5432/d", "postgresql+asyncpg://u:p@h:5432/d"),
        ("postgresql://u:p%40@h/d", "postgresql+asyncpg://u:p%40@h/d"),
        ("POSTGRESQL://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql:///d?host=/run/pg", "postgresql+asyncpg:///d?host=/run/pg"),
        ("postgres://h/d?a=1&sslmode=require", "postgresql+asyncpg://h/d?a=1&ssl=require"),
        ("postgres://h/d?sslmode=verify-full", "postgresql+asyncpg://h/d?ssl=verify-full"),
        ("sqlite:///jobs.db", "sqlite+pysqlite:///jobs.db"),
        ("sqlite:////var/lib/jobs.db", "sqlite+pysqlite:////var/lib/jobs.db"),
        ("sqlite+pysqlite:///jobs.db?timeout=3", "sqlite+pysqlite:///jobs.db?timeout=3"),
    ],
)
def test_the_driver_of_a_database_is_chosen(url: str, normal: str) -> None:
    assert Settings.read(database_url=url).database_url == normal
    assert Settings.read(database_url=normal).database_url == normal


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:hunter2@h/d", "postgresql://"),
        ("postgresql+psycopg2://u:hunter2@h/d", "the driver may be left out"),
        ("sqlite+aiosqlite:///hunter2.db", "the driver may be left out"),
        ("hunter2", "postgresql://"),
        ("", "empty text"),
        ("sqlite://", "in memory would lose accepted jobs"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file:hunter2?mode=memory&uri=true", "in memory"),
        ("sqlite://hunter2.db", "sqlite:///"),
    ],
)
def test_other_databases_are_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidOption, match=message) as caught:
        Settings.read(database_url=url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("TAURINE_REDIS_URL", "hunter2", "a URL such as redis://"),
        ("REDIS_URL", "localhost:6379", "a URL such as redis://"),
        ("REDIS_URL", "http://user:hunter2@h", "a URL such as redis://"),
        ("REDIS_URL", "redis://:hunter2/x@h:6379", "percent-encoded"),
        ("TAURINE_DATABASE_URL", "hunter2", "a URL such as postgresql://"),
        ("TAURINE_PREFIX", "hunter2\n", "a printable key prefix"),
        ("TAURINE_CONCURRENCY", "hunter2", "a whole number from 1 to"),
        ("TAURINE_CONCURRENCY", "2.5", "a whole number from 1 to"),
        ("TAURINE_CONCURRENCY", "0", "a whole number from 1 to"),
        ("TAURINE_LEASE", "hunter2", "seconds from 0.1 to"),
        ("TAURINE_LEASE", "nan", "seconds from 0.1 to"),
        ("TAURINE_LEASE", "-1", "seconds from 0.1 to"),
        ("TAURINE_ENV", "hunter2", "'dev' or 'production'"),
        ("TAURINE_LOG_FORMAT", "hunter2", "'console' or 'json'"),
        ("CRON_SECRET", "hunter2", "a text of 16 characters or more; got a text of 7 characters"),
        ("CRON_SECRET", "hunter2".rjust(15), "a text of 16 characters or more; got a text of 15 characters"),
    ],
)
def test_a_bad_variable_is_named_and_its_value_is_not_shown_seed_006_a56(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidOption, match=expected) as caught:
        Settings.read()
    error = caught.value
    assert f"expected {variable} to be" in str(error)
    assert error.__context__ is None  # nothing behind it holds the value either
    assert "hunter2" not in "".join(traceback.format_exception(error))


def test_a_bad_argument_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAURINE_CONCURRENCY", "5")
    with pytest.raises(InvalidOption, match="expected concurrency to be a whole number from 1 to 10000; got 0"):
        Settings.read(concurrency=0)
    with pytest.raises(InvalidOption, match="got True"):
        Settings.read(concurrency=True)


def test_a_near_miss_is_suggested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAURINE_ENV", "Producton")
    with pytest.raises(InvalidOption, match="did you mean 'production'"):
        Settings.read()


@pytest.mark.parametrize(
    ("misspelt", "known"),
    [
        ("TAURINE_REDIS_ULR", "TAURINE_REDIS_URL"),
        ("TAURINE_CONCURENCY", "TAURINE_CONCURRENCY"),
        ("TAURINE_DATABASE", "TAURINE_DATABASE_URL"),
        ("TAURINE_CRON_SECRET", "CRON_SECRET"),
    ],
)
def test_a_misspelt_variable_is_warned_of(misspelt: str, known: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unheard, it would mean another server than the one that was meant."""
    monkeypatch.setenv(misspelt, "redis://user:hunter2@h")
    with pytest.warns(TaurineWarning, match=f"{misspelt} is not read; did you mean {known}") as caught:
        Settings.read()
    assert "hunter2" not in str(caught[0].message)
    assert caught[0].filename == __file__


def test_variables_of_other_parts_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAURINE_APP", "shop:app")
    monkeypatch.setenv("TAURINE_BANANA", "1")
    monkeypatch.setenv("DATABASE_URL", "mysql://the-application's-own")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Settings.read().database_url is None


def test_settings_never_show_their_secrets_a56() -> None:
    settings = Settings.read(
        redis_url="redis://user:hunter2@h:6379/1",
        database_url="postgres://user:hunter2@h/d",
        cron_secret="hunter2 and more",
    )
    for text in (repr(settings), str(settings), f"{settings}", f"{[settings]}"):
        assert "hunter2" not in text
    assert "redis://***@h:6379/1" in repr(settings)
    assert pickle.loads(pickle.dumps(settings)) == settings
