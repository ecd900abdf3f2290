"""Random sequences of what workers and operators write, against a plain model of one record: SEED-023, SEED-025,
SEED-232, P3, P4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.ext.asyncio import create_async_engine

from ledger.writing import NOW, completion, ending, new_record, start
from taurine.ledger.completions import apply_completions
from taurine.ledger.endings import apply_endings
from taurine.ledger.fences import fence_of
from taurine.ledger.generations import NewGeneration, start_generation
from taurine.ledger.records import insert_records
from taurine.ledger.schema import attempt, dead_letter, job, metadata
from taurine.ledger.starts import apply_starts
from taurine.ledger.statuses import TERMINAL, allowed_from

IDS = ("a", "b")
ENDINGS = ("retrying", "waiting", "queued", "failed", "cancelled")


@dataclass
class Model:
    """What a record must say."""

    status: Any = "queued"
    generation: int = 0
    fence: int = 0
    attempts: int = 0
    output: str | None = None
    finished_at: int | None = None
    updated_at: int = NOW
    dead: set[int] = field(default_factory=set[int])
    ended: set[int] = field(default_factory=set[int])
    """Fences of attempts that ended without completing the job."""

    def write(self, status: Any, fence: int, at: int, attempts: int, output: str | None) -> Any:
        """The answer to a worker's write; the record changes when it is granted."""
        if self.fence <= fence and self.status in allowed_from(status):
            self.status, self.fence, self.attempts, self.output = status, fence, attempts, output
            self.finished_at = at if status in TERMINAL else None
            self.updated_at = max(self.updated_at, at)
            if status in ENDINGS:
                self.ended.add(fence)
            if status == "failed":
                self.dead.add(self.generation)
            return None
        if status == "running":
            return self.status
        repeated = (self.status, self.fence) == (status, fence) and self.finished_at in (None, at)
        return None if repeated else self.status

    def run_again(self, at: int) -> bool:
        if self.status not in TERMINAL:
            return False
        self.status, self.generation = "queued", self.generation + 1
        self.fence, self.attempts, self.output, self.finished_at = fence_of(self.generation, 0), 0, None, None
        self.updated_at = max(self.updated_at, at)
        return True


fences = st.builds(fence_of, st.integers(0, 2), st.integers(0, 3))
times = st.integers(NOW - 50, NOW + 200)
outputs = st.sampled_from(['"x"', "1", None])
ids = st.sampled_from(IDS)
several = st.lists(ids, min_size=1, unique=True)


def _command(name: str, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), st.fixed_dictionaries(parts))


commands = st.one_of(
    _command("insert", id_=ids),
    _command("start", id_=ids, fence=fences, at=times),
    _command("complete", ids=several, fence=fences, at=times, output=outputs),
    _command("end", id_=ids, status=st.sampled_from(ENDINGS), fence=fences, at=times),
    _command("again", id_=ids, at=times),
)
BEGUN = ("insert", {"id_": "a"})


def _run(connection: Connection, sequence: list[Any]) -> None:
    models: dict[str, Model] = {}
    for command in sequence:
        _COMMANDS[command[0]](connection, models, **command[1])
        assert _stored(connection) == _expected(models), command


def _insert(connection: Connection, models: dict[str, Model], id_: str) -> None:
    (answer,) = insert_records(connection, [new_record(id_)])
    if id_ in models:
        assert answer.existing is not None
        assert answer.existing.status == models[id_].status
    else:
        assert answer.existing is None
        models[id_] = Model()


def _start(connection: Connection, models: dict[str, Model], *, id_: str, fence: int, at: int) -> None:
    model = models.get(id_)
    wanted = "missing" if model is None else model.write("running", fence, at, 0, None)
    assert apply_starts(connection, [start(id_, fence=fence, at=at)]) == [wanted]


def _complete(
    connection: Connection, models: dict[str, Model], *, ids: list[str], fence: int, at: int, output: str | None
) -> None:
    wanted = [models[id_].write("completed", fence, at, 1, output) if id_ in models else "missing" for id_ in ids]
    items = [completion(id_, fence=fence, at=at, output=output) for id_ in ids]
    assert apply_completions(connection, items) == wanted


def _end(connection: Connection, models: dict[str, Model], *, id_: str, status: Any, fence: int, at: int) -> None:
    model = models.get(id_)
    wanted = "missing" if model is None else model.write(status, fence, at, 1, None)
    letter = "exhausted" if status == "failed" else None
    assert apply_endings(connection, [ending(id_, status, fence=fence, at=at, dead_letter=letter)]) == [wanted]


def _again(connection: Connection, models: dict[str, Model], id_: str, at: int) -> None:
    wanted = id_ in models and models[id_].run_again(at)
    (record,) = start_generation(connection, [NewGeneration(id=id_, at=at, action="retry")])
    assert (record is not None) is wanted


_COMMANDS: dict[str, Callable[..., None]] = {
    "insert": _insert,
    "start": _start,
    "complete": _complete,
    "end": _end,
    "again": _again,
}
_COLUMNS = ("status", "generation", "fence", "attempts", "output", "finished_at", "updated_at")


def _stored(connection: Connection) -> Any:
    rows = connection.execute(select(job.c.id, *(job.c[name] for name in _COLUMNS)))
    return (
        {row.id: tuple(row)[1:] for row in rows},
        {tuple(row) for row in connection.execute(select(dead_letter.c.job_id, dead_letter.c.generation))},
        {tuple(row) for row in connection.execute(select(attempt.c.job_id, attempt.c.fence))},
    )


def _expected(models: dict[str, Model]) -> Any:
    return (
        {id_: tuple(getattr(model, name) for name in _COLUMNS) for id_, model in models.items()},
        {(id_, generation) for id_, model in models.items() for generation in model.dead},
        {(id_, fence) for id_, model in models.items() for fence in model.ended},
    )


Rolled = Callable[[Callable[[Connection], None]], None]


@pytest.fixture
def rolled_back_sqlite() -> Iterator[Rolled]:
    """Run work in a transaction that is taken back."""
    engine = create_engine("sqlite://")

    def run(work: Callable[[Connection], None]) -> None:
        with engine.connect() as connection:
            work(connection)
            connection.rollback()

    with engine.begin() as connection:
        metadata.create_all(connection)
    yield run
    engine.dispose()


@pytest.fixture
def rolled_back_postgresql(postgres_url: str) -> Iterator[Rolled]:
    """Run work in a transaction that is taken back."""
    engine = create_async_engine(postgres_url)

    async def run(work: Callable[[Connection], None]) -> None:
        async with engine.connect() as connection:
            await connection.run_sync(work)
            await connection.rollback()

    async def prepare() -> None:
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)

    with asyncio.Runner() as runner:
        runner.run(prepare())
        yield lambda work: runner.run(run(work))
        runner.run(engine.dispose())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(commands, max_size=25))
def test_the_record_is_what_the_model_says_on_sqlite(rolled_back_sqlite: Rolled, sequence: list[Any]) -> None:
    rolled_back_sqlite(lambda connection: _run(connection, [BEGUN, *sequence]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(commands, max_size=25))
def test_the_record_is_what_the_model_says_on_postgresql(rolled_back_postgresql: Rolled, sequence: list[Any]) -> None:
    rolled_back_postgresql(lambda connection: _run(connection, [BEGUN, *sequence]))
