"""Which errors are worth another attempt, whatever library they come from and however they behave."""

from __future__ import annotations

import asyncio
import errno
import http.client
import io
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from email.message import Message
from http import HTTPStatus
from random import Random
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from taurine.errors import (
    Cancel,
    CorruptJob,
    InvalidOption,
    LedgerUnavailable,
    NotAuthorized,
    PayloadTooLarge,
    Permanent,
    RateLimited,
    Release,
    RetryAfter,
    Snooze,
    StoreRefused,
    StoreUnavailable,
    TenantMismatch,
    WaitTimeout,
)
from taurine.retry import LONGEST_RETRY_AFTER, Custom, Retry, Rule, Verdict, classify, leaves_open
from taurine.testing import TestClock

CLOCK = TestClock(start=784_111_747.0)
"""Sun, 06 Nov 1994 08:49:07 GMT: half a minute before the date in the standard's examples."""

TRANSIENT = {408, 409, 423, 425, 429, *range(500, 600)}


class Bearer(Exception):
    """An error with whatever attributes a library gives it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("the provider said no")
        self.__dict__.update(attributes)


class FalsyResponse(SimpleNamespace):
    """As of `requests`, whose responses of a failure are false."""

    def __bool__(self) -> bool:
        return False


def invalid() -> ValidationError:
    class Model(BaseModel):
        number: int

    with pytest.raises(ValidationError) as caught:
        Model.model_validate({"number": "hunter2"})
    return caught.value


# By type


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TimeoutError(), id="SEED-029 provider time-out"),
        pytest.param(StoreUnavailable("no answer"), id="SEED-030 store"),
        pytest.param(LedgerUnavailable("locked"), id="ledger"),
        pytest.param(WaitTimeout("late", job_id="1", queue="q"), id="wait"),
        pytest.param(ConnectionRefusedError(), id="SEED-095 network"),
        pytest.param(ConnectionResetError(), id="reset"),
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "name"), id="name server"),
        pytest.param(OSError(errno.EHOSTUNREACH, "no route"), id="no route"),
    ],
)
def test_time_outs_and_network_errors_are_transient_seed_176(error: BaseException) -> None:
    verdict = classify(error)
    assert (verdict.kind, verdict.retry_after, verdict.alert) == ("transient", None, False)
    assert "nothing is known" not in verdict.why


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(invalid(), id="SEED-031 invalid job data"),
        pytest.param(type("ValidationError", (ValueError,), {})(), id="another library's"),
        pytest.param(type("Narrower", (type("ValidationError", (Exception,), {}),), {})(), id="a subclass of it"),
        pytest.param(PayloadTooLarge("big"), id="payload"),
        pytest.param(InvalidOption("bad"), id="option"),
        pytest.param(CorruptJob("unreadable", job_id="1", queue="q"), id="corrupt"),
        pytest.param(Permanent("not found"), id="SEED-096, SEED-250, CON-05"),
        pytest.param(Cancel("changed my mind"), id="cancel"),
    ],
)
def test_invalid_data_is_permanent_seed_176(error: BaseException) -> None:
    assert (classify(error).kind, classify(error).alert) == ("permanent", False)


@pytest.mark.parametrize("error", [PermissionError("no"), NotAuthorized("no"), TenantMismatch("acme, not umbrella")])
def test_denied_access_is_permanent_and_alerts_seed_032_237(error: BaseException) -> None:
    verdict = classify(error)
    assert (verdict.kind, verdict.alert) == ("permanent", True)
    assert type(error).__name__ in verdict.why


@pytest.mark.parametrize(
    "error",
    [ValueError("bug"), KeyError("x"), RuntimeError(), FileNotFoundError(), StoreRefused("full"), BaseException()],
)
def test_an_unknown_error_is_retried_by_default(error: BaseException) -> None:
    verdict = classify(error)
    assert (verdict.kind, verdict.retry_after, verdict.alert) == ("transient", None, False)
    assert "retried by default" in verdict.why


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (RetryAfter(45), 45.0),
        (RetryAfter(0), 0.0),
        (Snooze(5), 5.0),
        (RateLimited(7), 7.0),
        (RetryAfter(float("nan")), None),
    ],
)
def test_a_handlers_own_word_has_its_delay(error: BaseException, wait: float | None) -> None:
    assert (classify(error).kind, classify(error).retry_after) == ("transient", wait)


def test_the_reason_never_holds_the_errors_text() -> None:
    for error in (invalid(), PermissionError("hunter2"), Bearer(status=404, detail="hunter2"), ValueError("hunter2")):
        assert "hunter2" not in classify(error).why


# By HTTP status


@pytest.mark.parametrize("status", range(400, 600))
def test_every_http_status_has_its_kind_seed_134_283_con_27(status: int) -> None:
    verdict = classify(Bearer(status_code=status))
    assert verdict.kind == ("transient" if status in TRANSIENT else "permanent")
    assert str(status) in verdict.why


def _urllib(status: int) -> HTTPError:
    headers = Message()
    headers["retry-AFTER"] = "30"
    return HTTPError("http://provider", status, "no", headers, io.BytesIO())


HEADERS = {"content-type": "text/plain", "Retry-After": "30"}


def _carriers(status: int) -> dict[str, Exception]:
    aws = {"Error": {"Code": "X"}, "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"retry-after": "30"}}}
    return {
        "httpx": Bearer(response=SimpleNamespace(status_code=status, headers=HEADERS)),
        "requests": Bearer(response=FalsyResponse(status_code=status, headers=HEADERS), status_code=None),
        "aiohttp": Bearer(status=status, headers=HEADERS),
        "starlette": Bearer(status_code=HTTPStatus(status), headers={b"retry-after": b"30"}),
        "pairs": Bearer(status_code=status, headers=[("Retry-After", "30")]),
        "number": Bearer(status_code=status, headers={"RETRY-AFTER": 30}),
        "other response": Bearer(response=SimpleNamespace(status=status, headers=HEADERS)),
        "stripe": Bearer(http_status=status, code="card_declined", headers=HEADERS),
        "urllib": _urllib(status),
        "google": Bearer(code=status, headers=HEADERS),
        "boto": Bearer(response=aws),
        "attribute": Bearer(status=status, retry_after=30),
    }


@pytest.mark.parametrize("library", _carriers(429))
def test_a_status_is_found_wherever_a_library_keeps_it_seed_283(library: str) -> None:
    limited, missing = _carriers(429)[library], _carriers(404)[library]
    assert classify(limited) == Verdict("transient", 30.0, why="HTTP status 429")
    assert classify(missing) == Verdict("permanent", why="HTTP status 404")
    for error in (limited, missing):
        if isinstance(error, HTTPError):
            error.close()


@pytest.mark.parametrize(
    "code", ["ThrottlingException", "ProvisionedThroughputExceededException", "RequestTimeout", "SlowDown"]
)
def test_what_aws_throttles_with_400_is_transient_con_27(code: str) -> None:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    assert classify(Bearer(response=response)).kind == "transient"
    response["Error"] = {"Code": "ValidationException"}
    assert classify(Bearer(response=response)).kind == "permanent"


@pytest.mark.parametrize("status", [0, 200, 302, 399, 600, 1006, True, 404.0, "404", None, [], lambda: 404])
def test_what_is_no_error_status_says_nothing(status: Any) -> None:
    assert "retried by default" in classify(Bearer(status=status, code=status)).why


def test_the_code_of_an_exit_is_no_http_status() -> None:
    assert "retried by default" in classify(SystemExit(404)).why


# Retry-After


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("120", 120.0),
        (" 120 ", 120.0),
        ("1.5", 1.5),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 30.0),
        ("Sun Nov  6 08:49:37 1994", 30.0),
        ("Sun, 06 Nov 1994 09:49:37 +0100", 30.0),
        ("Sun, 06 Nov 1994 08:49:07 GMT", None),  # now
        ("Sun, 06 Nov 1994 08:00:00 GMT", None),  # past
        ("0", None),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("1_000", None),
        ("٣", None),
        ("1, 2", None),
        ("1" * 1_000, None),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 9999 08:49:37 GMT", LONGEST_RETRY_AFTER),
        ("604800", LONGEST_RETRY_AFTER),
        (120, 120.0),
        (True, None),
        (float("nan"), None),
        (float("inf"), LONGEST_RETRY_AFTER),
        (None, None),
        ([], None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_in_all_its_forms_seed_283(status: int, value: Any, wait: float | None) -> None:
    verdict = classify(
        Bearer(response=SimpleNamespace(status_code=status, headers={"Retry-After": value})), clock=CLOCK
    )
    assert (verdict.kind, verdict.retry_after) == ("transient", wait)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of a process cannot be set here")
def test_a_date_without_a_zone_is_in_gmt_wherever_this_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        verdict = classify(Bearer(status=503, headers={"Retry-After": "Sun Nov  6 08:49:37 1994"}), clock=CLOCK)
    time.tzset()
    assert verdict.retry_after == 30.0


@given(st.text() | st.binary() | st.integers() | st.floats() | st.timedeltas() | st.datetimes() | st.none())
def test_any_retry_after_is_bounded(value: Any) -> None:
    verdict = classify(Bearer(status=429, headers={"retry-after": value}), clock=CLOCK)
    assert verdict.kind == "transient"
    assert verdict.retry_after is None or 0 < verdict.retry_after <= LONGEST_RETRY_AFTER


@pytest.mark.parametrize("headers", [None, 5, "retry-after", [1, 2], {}, {"retry-after": {}}, {None: "5"}])
def test_headers_of_any_shape_are_survived(headers: Any) -> None:
    assert classify(Bearer(status=429, headers=headers)).retry_after is None


def test_an_error_that_only_says_when_is_heard() -> None:
    assert classify(Bearer(retry_after=12)).retry_after == 12.0
    assert classify(Bearer(retry_after="soon")).retry_after is None


# Rules


class Declined(Exception):
    pass


class Busy(Exception):
    pass


RULES = (
    Rule(Declined, "permanent", alert=True),
    Rule((Busy, TimeoutError), "transient", retry_after=30),
    Rule(lambda error: "deadlock" in str(error), "transient", retry_after=1),
    Rule(OSError, "permanent"),
)


@pytest.mark.parametrize(
    ("error", "kind", "wait", "alert"),
    [
        (Declined(), "permanent", None, True),
        (Busy(), "transient", 30.0, False),
        (TimeoutError(), "transient", 30.0, False),  # the first that matches, though OSError does too
        (ValueError("deadlock detected"), "transient", 1.0, False),
        (PermissionError(), "permanent", None, False),
        (ConnectionError(), "permanent", None, False),
        (Permanent("deadlock"), "permanent", None, False),  # the handler's own word goes before
        (ValueError(), "transient", None, False),
    ],
)
def test_a_job_types_rules_go_before_the_table(
    error: BaseException, kind: str, wait: float | None, alert: bool
) -> None:
    verdict = classify(error, RULES)
    assert (verdict.kind, verdict.retry_after, verdict.alert) == (kind, wait, alert)


def test_a_rule_leaves_the_errors_own_time_unless_it_has_one() -> None:
    error = Bearer(status=404, headers={"Retry-After": "9"})
    assert classify(error, [Rule(Bearer, "transient")]).retry_after == 9.0
    assert classify(error, [Rule(Bearer, "transient", retry_after=2)]).retry_after == 2.0


def test_a_rule_that_raises_does_not_match(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "taurine.retry"):
        verdict = classify(PermissionError(), [Rule(lambda error: error.no_such_attribute, "transient")])  # type: ignore[attr-defined]
    assert verdict.kind == "permanent"
    assert "a retry rule raised" in caplog.text


# Causes and groups


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


def test_the_cause_is_asked_when_the_error_says_nothing() -> None:
    assert classify(caused(RuntimeError(), caused(ValueError(), Bearer(status=404)))).kind == "permanent"
    assert classify(caused(TimeoutError(), Bearer(status=404))).kind == "transient"
    assert classify(caused(RuntimeError(), Declined()), RULES).alert
    assert classify(caused(RuntimeError(), URLError("x"))).kind == "transient"


def test_the_context_is_not_asked() -> None:
    """It is whatever was being handled when the error came up."""
    error = RuntimeError()
    error.__context__ = PermissionError()
    assert classify(error).kind == "transient"


def test_a_group_is_permanent_if_a_member_is() -> None:
    group = ExceptionGroup("g", [TimeoutError(), ExceptionGroup("h", [ValueError(), Permanent("no")])])
    assert classify(group).kind == "permanent"
    assert not classify(group).alert
    assert classify(ExceptionGroup("g", [Permanent("no"), PermissionError()])).alert
    assert classify(BaseExceptionGroup("g", [asyncio.CancelledError(), TimeoutError()])).kind == "transient"


def test_a_transient_group_waits_for_its_longest_member() -> None:
    group = ExceptionGroup("g", [Bearer(status=429, retry_after=5), RetryAfter(9), TimeoutError()])
    assert (classify(group).kind, classify(group).retry_after) == ("transient", 9.0)


def test_chains_without_end_are_survived() -> None:
    first, second = RuntimeError(), RuntimeError()
    assert classify(caused(first, caused(second, first))).kind == "transient"
    error: Exception = PermissionError()
    for _ in range(100_000):
        error = ExceptionGroup("g", [error]) if _ < 5_000 else caused(RuntimeError(), error)  # type: ignore[assignment]
    assert classify(error).kind in ("transient", "permanent")
    while error.__cause__ is not None:  # or its end would overflow the stack of this interpreter
        error.__cause__, error = None, error.__cause__  # type: ignore[assignment]


# Errors that bite


class Boom(Exception):
    pass


class Hostile(Exception):
    """Raises whenever it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise Boom(name)

    def __str__(self) -> str:
        raise Boom

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise Boom

    __hash__ = None  # type: ignore[assignment]


class HostilePermission(Hostile, PermissionError):
    pass


class HostileNumber(int):
    def __le__(self, other: object) -> bool:
        raise Boom

    __lt__ = __ge__ = __gt__ = __eq__ = __float__ = __int__ = __le__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class HostileHeaders:
    def items(self) -> Iterator[tuple[str, str]]:
        while True:
            yield "x", "y"


class HostileResponse:
    headers = HostileHeaders()
    status_code = 503

    @property
    def status(self) -> int:
        raise Boom


class HostileMember:
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise Boom


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "itself": Hostile,
    "numbers": lambda: Bearer(status=HostileNumber(404), errno=HostileNumber(1), retry_after=HostileNumber(4)),
    "response": lambda: Bearer(response=HostileResponse()),
    "members": lambda: Bearer(response=HostileMember(), headers=HostileMember(), status=HostileMember()),
    "header names": lambda: Bearer(status=429, headers={HostileMember(): "5"}),
    "in a group": lambda: ExceptionGroup("g", [Hostile()]),
    "as a cause": lambda: caused(RuntimeError(), Hostile()),
}
"""Made in the test: pytest itself would fall over such a parameter."""


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_error_is_survived(what: str) -> None:
    rules = [Rule(lambda error: str(error) == "x", "permanent"), Rule(KeyError, "permanent")]
    error = HOSTILE[what]()
    assert classify(error, rules, clock=CLOCK).kind in ("transient", "permanent")
    assert classify(error, clock=CLOCK).retry_after is None
    retry = Retry(backoff=Custom(lambda made, error: len(str(error))))
    assert retry.pause(3, error, Random(1), CLOCK) is None
    retry.pause(1, error, Random(1), CLOCK)


def test_a_hostile_error_cannot_hide_its_type() -> None:
    assert classify(HostilePermission()) == Verdict("permanent", alert=True, why=classify(HostilePermission()).why)
    numbers = Bearer(status=HostileNumber(700), retry_after=HostileMember(), response=HostileMember())
    assert classify(ExceptionGroup("g", [Hostile(), numbers, HostilePermission()])).alert


@pytest.mark.parametrize(
    ("error", "open_"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (BrokenPipeError(), True),
        (ConnectionRefusedError(), False),
        (socket.gaierror(), False),
        (ValueError("an answer without an id"), True),
        (OSError(113, "no route"), True),
        (http.client.IncompleteRead(b""), True),
        (ssl.SSLEOFError("eof"), True),
        (asyncio.IncompleteReadError(b"", 4), True),
        (RetryAfter(5), True),
        (Release("overtaken"), True),
        (Cancel("asked to stop in the middle"), True),
        (Permanent("declined"), False),
    ],
)
def test_an_error_leaves_open_whether_it_happened_or_it_does_not(error: Exception, open_: bool) -> None:
    """SEED-236: only what certainly did not happen may be done again."""
    assert leaves_open(error) is open_
    outer = RuntimeError("a client's own error")
    outer.__cause__ = error
    assert leaves_open(outer) is open_


@pytest.mark.parametrize(
    ("status", "open_"),
    [
        *((status, True) for status in (408, 409, 499, 500, 502, 503, 504)),
        *((status, False) for status in (400, 402, 404, 422, 429)),
    ],
)
def test_so_does_the_answer_of_a_gateway(status: int, open_: bool) -> None:
    error = RuntimeError("an HTTP error")
    error.status_code = status  # pyright: ignore[reportAttributeAccessIssue]
    assert leaves_open(error) is open_


def test_all_members_of_a_group_must_prove_it() -> None:
    """As clients raise it that try several addresses."""
    refused = OSError("all connection attempts failed")
    refused.__cause__ = ExceptionGroup("", [ConnectionRefusedError(), socket.gaierror()])
    assert not leaves_open(refused)
    refused.__cause__ = ExceptionGroup("", [ConnectionRefusedError(), TimeoutError()])
    assert leaves_open(refused)


def test_giving_up_after_a_time_out_proves_nothing() -> None:
    error = Permanent("gave up")
    error.__cause__ = TimeoutError()
    assert leaves_open(error)


def test_the_caller_may_know_of_errors_that_prove_it() -> None:
    assert not leaves_open(KeyError("x"), (LookupError,))
    assert leaves_open(ValueError(), (LookupError,))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_error_proves_nothing(what: str) -> None:
    assert leaves_open(HOSTILE[what]()) is (what not in ("numbers", "header names"))


def test_a_chain_or_a_group_without_end_proves_nothing() -> None:
    first, second = RuntimeError(), RuntimeError()
    assert leaves_open(caused(first, caused(second, first)))
    error: Exception = ConnectionRefusedError()
    for _ in range(5_000):
        error = ExceptionGroup("g", [error])  # type: ignore[assignment]
    assert leaves_open(error)
