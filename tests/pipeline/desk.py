"""A support desk's pipeline, and an observer that writes down what it hears."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import BaseModel, Field

from taurine import StageEvent, StageFailure, StageObserver, StageProgress

__all__ = ["Heard", "Loaded", "Ticket", "Triage", "classify", "load", "route"]


class Ticket(BaseModel):
    number: int
    summary: str = Field(min_length=1)


class Loaded(BaseModel):
    number: int
    text: str


class Triage(BaseModel):
    number: int
    category: str


async def load(ticket: Ticket) -> Loaded:
    return Loaded(number=ticket.number, text=ticket.summary.lower())


async def classify(loaded: Loaded) -> Triage:
    return Triage(number=loaded.number, category="billing" if "invoice" in loaded.text else "other")


async def route(triage: Triage) -> str:
    return f"{triage.category}/{triage.number}"


@dataclass
class Heard(StageObserver):
    """events: in their order, each with what happened."""

    events: list[tuple[str, StageEvent]] = field(default_factory=list)

    async def stage_started(self, event: StageEvent) -> None:
        self.events.append(("started", event))

    async def stage_progressed(self, event: StageProgress) -> None:
        self.events.append(("progressed", event))

    async def stage_completed(self, event: StageEvent) -> None:
        self.events.append(("completed", event))

    async def stage_failed(self, event: StageFailure) -> None:
        self.events.append(("failed", event))

    @property
    def story(self) -> list[str]:
        """Each event in two words: "load started"."""
        return [f"{event.stage} {what}" for what, event in self.events]
