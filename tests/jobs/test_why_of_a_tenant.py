"""`app.why(job_id, tenant=…)`: a tenant is told what holds its job, and learns nothing of others, workers or servers by
it (A37).
"""

from __future__ import annotations

from typing import Any

import pytest

from jobs.operated import Order, declare_orders
from jobs.situations import at, facts, named, place, record, report, run
from taurine.app import Taurine
from taurine.jobs.operations.reasons import Reason, explain
from taurine.ledger.outbox import OutboxLag

STARTED = at(-3)
SECRETS = ("db.internal", "host-7", "4711", "4712")
"""A server, a worker and figures of the queue, which all tenants share."""


WORKERS = named(*["host-7:4711"] * 4711)

SITUATIONS: dict[str, dict[str, Any]] = {
    "in line": {"place": place()},
    "deep in line": {"place": place(ahead=None)},
    "slots taken": {
        "place": place(),
        "reports": [report("host-7:4711", slots=4711)],
        "runs": [run("4712", -3600)],
    },
    "slots taken that others leave": {
        "place": place(),
        "reports": [report("host-7:4711", slots=4711)],
        "runs": [run("4712", -3600)],
        "last_end": at(-1).timestamp(),
    },
    "nothing ends": {"place": place(), "runs": [run("4712", -3600)]},
    "at the limit": {"place": place(concurrency=4711)},
    "running": {
        "record": record(status="running", worker="host-7:4711", started_at=STARTED),
        "place": place(state="active", lease_left=20.0),
    },
    "cancelling": {
        "record": record(status="running", worker="host-7:4711", started_at=STARTED, cancel_requested_at=STARTED),
        "place": place(state="active", lease_left=20.0),
    },
    "stalled": {"place": place(state="active"), "reports": [report("host-7:4711", late=["loop-4712"])]},
    "handed back": {"place": place(state="delayed", due_at=at(3).timestamp())},
    "in the outbox": {
        "record": record(dispatched_at=None),
        "place": place(job=None),
        "lag": OutboxLag(4711, 1, 4_711_000),
    },
    "server away": {"store_error": "cannot connect to db.internal:4711"},
    "ledger away": {"record": None, "ledger_error": "cannot connect to db.internal:4711"},
}


def told(situation: str, tenant: str | None) -> list[Reason]:
    return explain(facts(tenant, **({"workers": WORKERS} | SITUATIONS[situation])))


@pytest.mark.parametrize("situation", SITUATIONS)
def test_no_figure_of_others_no_worker_and_no_server_is_named_to_a_tenant(situation: str) -> None:
    """A37, SEED-234."""
    operators, tenants = told(situation, None), told(situation, "acme")

    assert [reason.code for reason in tenants] == [reason.code for reason in operators]
    assert [reason.next_event for reason in tenants] == [reason.next_event for reason in operators]
    assert any(secret in str(operators) for secret in SECRETS) or situation == "handed back"
    for secret in SECRETS:
        assert secret not in str(tenants)
    assert "47.1" not in str(tenants)


async def test_a_tenants_view_of_its_own_job_and_of_anothers(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of another's job the queue is not even asked: it would tell by the time that it takes."""
    orders = declare_orders(app)
    await orders.enqueue(Order(number=1), tenant="umbrella", job_id="theirs")
    await orders.enqueue(Order(number=2), tenant="acme", job_id="mine")

    mine, all_of_it = await app.why("mine", tenant="acme"), await app.why("mine")
    monkeypatch.setattr(app._backend(), "queue", None)  # whoever asks for one fails
    theirs, nobodys = await app.why("theirs", tenant="acme"), await app.why("none", tenant="acme")

    assert (mine.reasons[-1].text, dict(mine.reasons[-1].details)) == ("is in line behind others", {})
    assert (all_of_it.reasons[-1].text, all_of_it.reasons[-1].details["ahead"]) == ("is in line behind 1 other", 1)
    assert (theirs.code, theirs.reasons, theirs.record) == ("not_found", nobodys.reasons, None)
