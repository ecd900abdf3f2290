"""`taurine alerts`: what fires, and an exit code that says whether something does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from observe.alerting import Pretended, watch_of
from taurine.app import Taurine


async def test_what_fires_is_listed_and_ends_with_1(app: Taurine, taurine: Callable[..., Any]) -> None:
    none = await taurine("alerts")
    figures = Pretended(11)
    watch = watch_of(app, figures)
    await watch.run_once()
    firing = await taurine("alerts")
    as_json = await taurine("alerts", "--json")
    figures.dead = 0
    await watch._look()
    over, everything = await taurine("alerts"), await taurine("alerts", "--all")

    assert (none.code, none.out) == (0, "")
    assert "No alerts." in none.err
    assert "nobody looks for them" in none.err
    assert firing.code == as_json.code == 1
    assert "dead_letters_depth  mail   firing  error" in firing.out
    (alert,) = as_json.json["alerts"]
    assert (alert["state"], alert["value"], alert["limit"]) == ("firing", 11.0, 10.0)
    assert (over.code, over.out) == (0, "")
    assert everything.code == 0
    assert "over: queue 'mail' has 0 dead letters" in everything.out
