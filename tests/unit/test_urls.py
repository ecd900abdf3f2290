"""URLs in messages: what of them may be shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import InvalidOption
from taurine.queue.connection import Connection
from taurine.urls import masked_url


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:p@h:6379/0", "redis://***@h:6379/0"),
        ("rediss://u:p@h", "rediss://***@h"),
        ("redis://u:p@ss/w?rd#1@h:1", "redis://***@h:1"),
        ("unix://u:p@/run/v.sock?db=1", "unix://***@/run/v.sock?db=1"),
        ("unix:///run/v.sock?password=p&db=1", "unix:///run/v.sock?password=***&db=1"),
        ("redis://h?p%61ssword=p", "redis://h?p%61ssword=***"),
        ("postgresql+asyncpg://u:p@h/d?ssl=require", "postgresql+asyncpg://***@h/d?ssl=require"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("u:p@h", "***"),
        ("p", "***"),
        ("", "***"),
    ],
)
def test_urls_are_masked_a56(url: str, masked: str) -> None:
    assert masked_url(url) == masked


@given(
    st.sampled_from(["redis", "rediss", "unix", "postgresql"]), st.text(max_size=10), st.text(min_size=1, max_size=20)
)
def test_no_password_survives_the_mask_a56(scheme: str, user: str, password: str) -> None:
    """Whatever the characters, also such as should have been percent-encoded."""
    assert masked_url(f"{scheme}://{user}:{password}@host:1/0") == f"{scheme}://***@host:1/0"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:sec/ret@host:6379/0",
        "redis://user:secret@host:port/0",
        "http://user:secret@host",
        "secret",
        "redis://host/0?max_connections=many&password=secret",
    ],
)
def test_a_url_that_a_connection_refuses_is_masked_a56(url: str) -> None:
    """Also in the errors behind it: urllib's own names what it took for the port."""
    with pytest.raises(InvalidOption, match="expected a URL such as redis://localhost:6379") as refusal:
        Connection(url)
    assert "sec" not in str(refusal.value)
    assert refusal.value.__cause__ is refusal.value.__context__ is None
