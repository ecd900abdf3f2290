"""What is hidden, and what is not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taurine.errors import InvalidOption
from taurine.jobs.reporting.failures import failure_of
from taurine.jobs.reporting.redaction import Redact

RULES = Redact.DEFAULT


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password=hunter2 and more", "password=[redacted] and more"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: [redacted]"),
        ("accessToken: 'a b'", "accessToken: [redacted]"),
        ('{"api_key": "k1", "a": 1}', '{"api_key": [redacted], "a": 1}'),
        ("sent to joe.doe+x@mail.example.com today", "sent to [redacted] today"),
        ("postgres://user:pw@host/db", "postgres://[redacted]@host/db"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx.sig", "got [redacted]"),
        ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "[redacted]"),
        ("max_tokens: 100 in the token ring", "max_tokens: 100 in the token ring"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_secrets_in_text_are_hidden_by_default(text: str, shown: str) -> None:
    """SEED-255, SEED-277."""
    assert RULES.text(text) == shown


def test_secret_fields_are_hidden_at_any_depth() -> None:
    data: Any = {"to": "a@b.example", "user": [{"Pass-Word": 1, "password": 2, "secretKey": 3}], "n": 4, "none": None}
    assert RULES.data(data) == {
        "to": "[redacted]",
        "user": [{"Pass-Word": 1, "password": "[redacted]", "secretKey": 3}],
        "n": 4,
        "none": None,
    }


@given(
    st.lists(
        st.sampled_from([*"= :'\"[]\\ax\n@.&", "token", "password", "Bearer ", "[redacted]", "a@b.example"]),
        max_size=12,
    )
)
def test_what_is_hidden_twice_is_hidden_once(parts: list[str]) -> None:
    """A42: a stored error was looked through when it was written, and is again when it is shown."""
    once = RULES.text("".join(parts))
    assert RULES.text(once) == once


def test_a_job_id_with_an_address_keeps_a_mark_that_tells_it_from_others() -> None:
    """SEED-255: the lines of one job are still found together."""
    one, again, other = (RULES.job_id(f"invite:acme:{name}@mail.example") for name in ("joe", "joe", "ann"))
    assert one == again != other
    assert "joe" not in one
    assert RULES.job_id("ticket-triage:acme:7") == "ticket-triage:acme:7"


def test_rules_of_ones_own() -> None:
    rules = Redact.NONE.also(names=["customer-no"], patterns=[r"\bAC-\d{4}\b"])
    assert (
        rules.text("customer_no=5, account AC-1234, password=x")
        == "customer_no=[redacted], account [redacted], password=x"
    )
    with pytest.raises(InvalidOption, match="regular expression"):
        Redact(patterns=["("])


def test_an_error_is_hidden_in_its_message_its_traceback_and_for_the_queue() -> None:
    try:
        raise ValueError("no mail to joe@mail.example")
    except ValueError as error:
        failure = failure_of(error)
    assert "joe@" not in failure.json
    assert "joe@" not in str(failure.shown) + "".join(failure.shown.__notes__)
    clean = ValueError("plain")
    assert failure_of(clean).shown is clean


@pytest.mark.parametrize(
    "part",
    [
        "a-",
        "_-",
        "a@",
        "a@b.c.",
        "x",
        "a-b_c-",
        "eyJ-",
        "password=",
        "bearer ",
        "://a:b",
        "-----BEGIN PRIVATE KEY-----",
    ],
)
def test_no_text_takes_long(part: str) -> None:
    """Rules run over what users write, and nothing else runs meanwhile: a megabyte of whatever it is takes the same few
    tenths of a second. The bound is far above.
    """
    text = "token: " + (part * (1 << 20))[: 1 << 20]
    begun = time.process_time()
    Redact.DEFAULT.text(text)
    assert time.process_time() - begun < 2
