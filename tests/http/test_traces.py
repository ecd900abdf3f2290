"""A request's span: the caller's trace goes on in the job, and nothing that is private is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from opentelemetry.trace import SpanKind

from support.api import Client, declare_invites
from support.eventually import eventually
from support.telemetry import Recorded, id_of, parent_of, trace_of
from taurine.app import Taurine

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def app(app_factory: Callable[..., Taurine], recorded: Recorded) -> Taurine:
    app = app_factory(telemetry=recorded.telemetry)
    declare_invites(app)
    return app


async def test_the_callers_trace_goes_through_the_request_to_the_attempt(
    app: Taurine, client: Client, recorded: Recorded
) -> None:
    client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
    accepted = (await client.enqueue()).json()
    async with app.worker():
        await app.wait(accepted["id"], timeout=20)
        await eventually(lambda: recorded.spans("process mail"))

    request, enqueue, process = recorded.one("POST"), recorded.one("enqueue invite.send"), recorded.one("process mail")
    assert (request.kind, f"{parent_of(request):016x}") == (SpanKind.SERVER, SPAN)
    assert (parent_of(enqueue), parent_of(process)) == (id_of(request), id_of(enqueue))
    assert {trace_of(span) for span in recorded.spans()} == {TRACE}


async def test_what_is_told_of_a_request_names_no_job_and_no_token(client: Client, recorded: Recorded) -> None:
    await client.enqueue(job_id="invite:ada")
    await client.get("/v1/jobs/invite:ada?token=private")
    await client.get("/v1/jobs/nobody")

    told = [dict(span.attributes or {}) for span in recorded.spans() if span.kind is SpanKind.SERVER]
    assert [(about["http.request.method"], about["http.response.status_code"]) for about in told] == [
        ("POST", 202), ("GET", 200), ("GET", 404),
    ]  # fmt: skip
    routes = [str(about["http.route"]).removeprefix("/v1") for about in told]
    assert routes == ["/jobs/{type}", "/jobs/{job_id}", "/jobs/{job_id}"]
    assert not any("ada" in str(value) or "private" in str(value) for about in told for value in about.values())


async def test_a_span_that_the_host_has_begun_is_the_requests(client: Client, recorded: Recorded) -> None:
    """Its own instrumentation, perhaps: there is not a second one."""
    with recorded.tracer.start_as_current_span("host"):
        await client.enqueue()

    assert not recorded.spans("POST")
    assert parent_of(recorded.one("enqueue invite.send")) == id_of(recorded.one("host"))


@pytest.mark.parametrize("value", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "ff" * 4000])
async def test_a_header_that_makes_no_sense_begins_a_trace(client: Client, recorded: Recorded, value: str) -> None:
    client.headers["traceparent"] = value
    assert (await client.enqueue()).status_code == 202
    assert parent_of(recorded.one("POST")) is None


async def test_without_a_telemetry_there_is_no_layer(
    app_factory: Callable[..., Taurine], client_of: Callable[..., Client]
) -> None:
    app = app_factory()
    declare_invites(app)
    client = client_of(app)
    client.headers["traceparent"] = f"00-{TRACE}-{SPAN}-01"
    accepted = (await client.enqueue()).json()
    record = await app.get(accepted["id"])
    assert record is not None
    assert record.trace is None
