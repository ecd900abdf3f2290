"""How log lines look where the application has not said it: in a line for people, or as JSON for whatever collects
them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import IO, Any, cast

from taurine.jobs.reporting.lines import JobFields, one_line, several_lines
from taurine.jobs.reporting.redaction import Redact
from taurine.settings import LogFormat

__all__ = ["log_handler"]

_LOOKED_THROUGH = frozenset({"taurine.jobs", "taurine.handler", "taurine.access"})
"""Loggers whose texts are redacted where they are made: once is enough for lines of which each job has some."""

_FIELDS = ("job_id", "job_type", "queue", "attempt", "tenant", "trace")


def log_handler(log_format: LogFormat, *, redact: Redact = Redact.DEFAULT) -> logging.Handler:
    """A handler that writes to stderr, whatever that is at the time.

    log_format: "console" for people, "json" for one JSON object in each line. redact: what no line shows, whoever
    writes it. Default: obvious secrets and e-mail addresses.

    Lines that are written while a handler runs carry its job's fields, whoever writes them; as JSON they show them.
    """
    handler = _Stderr()
    handler.setFormatter(_JsonLine(redact) if log_format == "json" else _Line(redact))
    handler.addFilter(JobFields())
    return handler


class _Stderr(logging.StreamHandler[IO[str]]):
    """Asks for stderr each time: what moves on a terminal puts itself in between while it moves."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> IO[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr


class _Form(logging.Formatter):
    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact

    def said(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        return text if record.name in _LOOKED_THROUGH else self._redact.text(text)

    def fields(self, record: logging.LogRecord) -> Mapping[str, Any]:
        """What `ctx.log` was given beside the text."""
        fields = getattr(record, "fields", None)
        if not isinstance(fields, Mapping):
            return {}
        told = cast("Mapping[str, Any]", fields)
        return told if record.name in _LOOKED_THROUGH else self._redact.data(told)

    def trace(self, record: logging.LogRecord) -> str | None:
        return self._redact.text(self.formatException(record.exc_info)) if record.exc_info else None


class _Line(_Form):
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        level = "" if record.levelno == logging.INFO else f"{record.levelname} "
        text = several_lines(self.said(record))
        words = "".join(f" {name}={_word(value)}" for name, value in self.fields(record).items())
        text += one_line(words)
        if (trace := self.trace(record)) is not None:
            text = f"{text}\n{several_lines(trace)}"
        number = os.environ.get("TAURINE_PROCESS")  # of several worker processes
        job = several_lines(str(getattr(record, "job_id", None) or ""))
        whose = f"{job}: " if job and job not in text else ""  # our own lines name their job
        return f"{at:%H:%M:%S} {f'[{number}] ' if number else ''}{level}{record.name}: {whose}{text}"


class _JsonLine(_Form):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": self.said(record),
        }
        line |= {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}
        if fields := self.fields(record):
            line["fields"] = fields
        if (trace := self.trace(record)) is not None:
            line["exception"] = trace
        return json.dumps(line, default=str)


def _word(value: object) -> str:
    """A field's value: a text as it is where it is one word, all else as JSON."""
    if isinstance(value, str) and value.isprintable() and value and not {" ", "=", '"'} & {*value}:
        return value
    return json.dumps(value, default=str, ensure_ascii=False)
