"""Each stage has to take what the one before it returns; what can be seen to be wrong is refused at import."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar

import pytest

from pipeline.desk import Loaded, Ticket, Triage, classify, load
from taurine import CatalogError, Pipeline
from taurine.pipeline.fitting import fits

T = TypeVar("T")
TicketNumber = NewType("TicketNumber", int)


class Urgent(Ticket):
    pass


class Row(TypedDict):
    number: int


class HasNumber(Protocol):
    number: int


def test_a_mismatch_names_both_stages_and_both_types() -> None:
    async def assess(triage: Triage) -> int:
        return triage.number

    with pytest.raises(CatalogError) as caught:
        Pipeline("ticket-triage", [load, assess])
    assert (
        str(caught.value)
        == "pipeline 'ticket-triage': stage 'assess' takes Triage, but 'load' before it returns Loaded"
    )


def test_models_that_are_declared_in_a_function_are_found() -> None:
    class Local(Loaded):
        pass

    async def deepen(loaded: Loaded) -> Local:
        return Local(**loaded.model_dump())

    async def look(local: Local) -> str:
        return local.text

    pipeline = Pipeline("p", (load, deepen, look))
    assert (pipeline.takes, pipeline.returns) == (Ticket, str)
    with pytest.raises(CatalogError, match="stage 'look' takes Local, but 'load' before it returns Loaded"):
        Pipeline("p", [load, look])


def test_two_types_of_one_name_are_told_apart() -> None:
    def other() -> type:
        class Triage:
            pass

        return Triage

    def make(number: int) -> Any: ...
    def take(triage: Any) -> int: ...

    make.__annotations__["return"], take.__annotations__["triage"] = Triage, other()
    with pytest.raises(
        CatalogError, match=r"takes .*test_fitting.*Triage, but 'make' before it returns .*desk\.Triage"
    ):
        Pipeline("p", [make, take])


def test_what_is_not_annotated_may_be_anything() -> None:
    async def load_anything(ticket: Ticket):
        return await load(ticket)

    assert Pipeline("p", [load_anything, classify]).returns is Triage


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (Ticket, Ticket),
        (Urgent, Ticket),
        (Ticket, Any),
        (Any, Ticket),
        (Ticket, object),
        (Ticket, Ticket | None),
        (Ticket, Optional[Ticket]),  # noqa: UP045 - the older form is another type
        (Urgent | Ticket, Ticket | None),
        (None, int | None),
        (None, type(None)),
        (bool, int),
        (int, float),
        (TicketNumber, int),
        (Annotated[int, "positive"], int),
        (int, Annotated[int, "positive"]),
        (Literal["a"], str),
        (Literal["a"], Literal["a", "b"]),
        (T, Ticket),
        (Ticket, T),
        (Ticket, HasNumber),
        (list[Urgent], Sequence[Ticket]),
        (list, list[Ticket]),
        (list[int], Iterable[float]),
        (tuple[int, str], tuple[int, str]),
        (tuple[int, int], tuple[int, ...]),
        (tuple[int, ...], Sequence[int]),
        (dict[str, int], Mapping[str, float]),
        (dict[str, int], Iterable[str]),
        (Row, dict),
        (Row, Row),
        (Callable[[int], int], Callable[[int], int]),
    ],
)
def test_what_fits(returned: Any, taken: Any) -> None:
    assert fits(returned, taken)


@pytest.mark.parametrize(
    ("returned", "taken"),
    [
        (Ticket, Triage),
        (Ticket, Urgent),
        (Ticket | None, Ticket),
        (None, Ticket),
        (Ticket, None),
        (float, int),
        (str, Literal["a"]),
        (Literal["a", "c"], Literal["a", "b"]),
        (Literal[1], str),
        (TicketNumber, str),
        (Annotated[int, "positive"], str),
        (list[Ticket], list[Triage]),
        (list[Ticket], Ticket),
        (Ticket, list[Ticket]),
        (tuple[int, str], tuple[int]),
        (tuple[int, str], tuple[int, ...]),
        (dict[str, int], Mapping[int, int]),
        (dict[str, int], Iterable[int]),
        (str, Row),
    ],
)
def test_what_does_not(returned: Any, taken: Any) -> None:
    assert not fits(returned, taken)
