"""The triage of a ticket: load, classify, route, notify."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from pydantic import BaseModel, Field

from taurine.demo.mailing import DOMAIN, Receipt
from taurine.demo.office import Office
from taurine.jobs.handler.context import Context
from taurine.pipeline import Pipeline

__all__ = ["Classified", "Loaded", "Notified", "RoutedTo", "TicketNumber", "category_of", "letter_name", "triage"]

KEYWORDS: Mapping[str, str] = {
    "files": "file files path paths directory directories filename archive stream read write disk",
    "network": "socket http url urls server client request requests host port message header address",
    "text": "string strings text unicode encoding decode encode regex pattern line lines character",
    "numbers": "number numbers integer float decimal digits random mean sum rounding value date time",
    "processes": "thread threads process processes lock task tasks event loop async signal future",
    "code": "class function method module import object attribute argument exception parser node",
}
"""The words that speak for each category. Of two categories with as many, the first is taken."""

_URGENT = "error errors fail fails failed failure raise raises raised broken corrupt invalid deprecated"

_OTHER = "other"
_WORD = re.compile(r"[a-z]+")


class TicketNumber(BaseModel):
    """Which ticket; whatever else is to be known stands in the business database."""

    number: int = Field(ge=1)


class Loaded(BaseModel):
    """A ticket with its text."""

    number: int
    subject: str
    body: str


class Classified(BaseModel):
    """A ticket, and what it is about."""

    number: int
    subject: str
    category: str
    urgent: bool


class RoutedTo(BaseModel):
    """A ticket, and whose it is."""

    number: int
    subject: str
    team: str
    urgent: bool


class Notified(BaseModel):
    """A ticket whose team was told."""

    number: int
    team: str
    letter: Receipt


def category_of(text: str) -> tuple[str, bool]:
    """The category that most words speak for, and whether the text sounds urgent."""
    words = Counter(_WORD.findall(text.lower()))
    scores = {name: sum(words[word] for word in keywords.split()) for name, keywords in KEYWORDS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] else _OTHER, any(words[word] for word in _URGENT.split())


def letter_name(number: int) -> str:
    """What the letter about a ticket is called, for ever."""
    return f"triage.{number}"


def load(ticket: TicketNumber, ctx: Context) -> Loaded:
    office: Office = ctx.deps
    subject, body = office.tickets.read(ticket.number)
    return Loaded(number=ticket.number, subject=subject, body=body)


def classify(ticket: Loaded) -> Classified:
    category, urgent = category_of(f"{ticket.subject} {ticket.body}")
    return Classified(number=ticket.number, subject=ticket.subject, category=category, urgent=urgent)


def route(ticket: Classified, ctx: Context) -> RoutedTo:
    office: Office = ctx.deps
    team = f"{ticket.category}@{DOMAIN}"
    office.tickets.route(ticket.number, category=ticket.category, team=team, urgent=ticket.urgent)
    return RoutedTo(number=ticket.number, subject=ticket.subject, team=team, urgent=ticket.urgent)


def notify(ticket: RoutedTo, ctx: Context) -> Notified:
    office: Office = ctx.deps
    receipt = office.mailer.send_once(
        ctx,
        letter_name(ticket.number),
        to=ticket.team,
        subject=f"{'urgent: ' if ticket.urgent else ''}ticket {ticket.number}",
        body=ticket.subject,
    )
    return Notified(number=ticket.number, team=ticket.team, letter=receipt)


triage = Pipeline("ticket.triage", (load, classify, route, notify))
