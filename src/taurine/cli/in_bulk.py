"""Retrying or cancelling all jobs that a filter lets through: their number first, then a question, then how far it is.

A job of `taurine.bulk` does it, which this process runs itself: so it needs no worker, and where it is killed half-way
a worker goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from taurine.cli.failures import DONE, REFUSED
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.bulk_orders import BulkFilter, Matching
    from taurine.ledger.records import JobRecord

__all__ = ["Filter", "carried_out", "change_all", "one_of_both", "report", "tell_number"]

_DONE_WORDS = {
    "retry": "queued again",
    "cancel": "cancelled, or told to stop",
    "redrive": "queued again",
    "discard": "put aside",
}


@dataclass(frozen=True, kw_only=True)
class Filter:
    """What was said on the command line of the jobs that are meant. since: a duration in words. everything: --all.

    limit: how many at most. rate: how many a second at most. dry_run: only say how many.
    """

    status: str | None
    type: str | None
    queue: str | None
    tenant: str | None
    tag: str | None
    since: str | None
    everything: bool
    limit: int | None
    rate: float | None
    dry_run: bool

    @property
    def is_given(self) -> bool:
        """True where anything but the tenant was said: to name a tenant beside ids is a check, and no filter."""
        return self.everything or any((self.status, self.type, self.queue, self.tag, self.since))

    def where(self) -> BulkFilter:
        """The same as a bulk operation takes it. Raises InvalidOption."""
        from time import time

        from pydantic import ValidationError

        from taurine.cli.reading import read_seconds
        from taurine.errors import did_you_mean
        from taurine.jobs.operations.bulk_orders import BulkFilter
        from taurine.ledger.statuses import STATUSES

        since = None if self.since is None else time() - read_seconds(self.since, "--since")
        try:
            return BulkFilter(
                status=cast("Any", self.status), type=self.type, queue=self.queue, tag=self.tag, since=since
            )
        except ValidationError:
            near = did_you_mean(self.status or "", STATUSES)
        raise InvalidOption(f"expected --status to be one of {', '.join(STATUSES)}, got {self.status!r:.40}{near}")

    def words(self) -> str:
        """It in words, for a question: ` of queue mail of tenant acme`."""
        parts = (
            ("of type", self.type),
            ("of queue", self.queue),
            ("of tenant", self.tenant),
            ("with the tag", self.tag),
            ("of the last", self.since),
        )
        return "".join(f" {name} {value}" for name, value in parts if value is not None)


def one_of_both(ids: Sequence[str] | None, wanted: Filter) -> bool:
    """True for a filter, False for ids.

    Both at once exclude each other, and nothing at all is not taken for everything. Raises InvalidOption.
    """
    if ids and wanted.is_given:
        raise InvalidOption("expected ids, or a filter, or --all; got several of them")
    if not ids and not wanted.is_given and wanted.tenant is None:
        raise InvalidOption("expected the ids of jobs, a filter such as --type, or --all")
    if ids and (wanted.dry_run or wanted.limit is not None or wanted.rate is not None):
        raise InvalidOption("--limit, --rate and --dry-run are of a filter, and here are ids")
    return not ids


async def change_all(
    app: Taurine,
    output: Output,
    action: Literal["retry", "cancel"],
    wanted: Filter,
    *,
    reason: str = "cancelled in bulk",
    user: str | None,
    yes: bool,
) -> int:
    """Do it to all of them, after a question; returns the exit code.

    What has come since they were counted is not reached.

    reason: of cancelled jobs, for their records. user: who asks. yes: do not ask.
    Raises InvalidOption, also for more than one operation may reach; NotAuthorized, QuotaExceeded, LedgerUnavailable.
    """
    from taurine.cli.asking import confirmed

    where = wanted.where()
    found = await app.bulk.count(action, where, tenant=wanted.tenant)
    which = _which(action, wanted, found)
    if wanted.dry_run or not found.number:
        tell_number(output, found, which)
        return DONE
    if not found.exact and wanted.limit is None:
        raise InvalidOption(f"there are {which}, and one operation reaches {found.number - 1:,}; add --limit")
    if not confirmed(output, f"{action.capitalize()} {which}?", yes=yes):
        return REFUSED
    handle = await app.bulk.start(
        action,
        where=where,
        expected=found.number if found.exact else None,
        at=found.at,
        limit=wanted.limit,
        rate=wanted.rate,
        reason=reason,
        user=user,
        tenant=wanted.tenant,
    )
    return report(output, await carried_out(app, output, handle.id), action)


def _which(action: str, wanted: Filter, found: Matching) -> str:
    """`1,204 failed jobs of queue mail`."""
    limit = wanted.limit
    status = wanted.status or ("failed" if action == "retry" else "open")
    number = found.number if limit is None else min(limit, found.number)
    more = " or more" if limit is None and not found.exact else ""
    of = f" of {found.number:,}{'' if found.exact else ' or more'}" if number < found.number else ""
    return f"{number:,}{more}{of} {status} jobs{wanted.words()}"


def tell_number(output: Output, found: Matching, which: str) -> None:
    """Print how many there are, for who has not asked for more. which: the number and what they are, in words."""
    if output.as_json:
        output.json({"number": found.number, "exact": found.exact})
    else:
        output.line(f"There are {which}; nothing was changed.")


async def carried_out(app: Taurine, output: Output, job_id: str) -> JobRecord:
    """The operation's record once it has ended. A Ctrl-C ends it where it is: what was changed until then stays so."""
    from asyncio import CancelledError

    from taurine.cli.following import follow

    async with app.operations_worker():
        try:
            return await follow(app, job_id, output)
        except CancelledError:
            await app.cancel(job_id, reason="Ctrl-C")
            ended = await app.wait(job_id, 10)
            done = _result_of(ended).get("done", 0)
            output.note(f"Stopped; {done:,} were changed. `taurine job {job_id}` shows it.")
            raise


def _result_of(record: JobRecord | None) -> dict[str, Any]:
    """What became of it, as far as that is known: the members of `BulkResult`."""
    return cast("dict[str, Any]", (record and record.output) or {})


def report(output: Output, record: JobRecord, action: str) -> int:
    """Say what became of an operation; returns the exit code."""
    from taurine.cli.following import conclude

    result = _result_of(record)
    if output.as_json:
        output.json({"job": record.id, "status": record.status, **output.redact.data(result)})
    if record.status != "completed":
        return conclude(record, output)
    if not output.as_json:
        output.line(f"{result['done']:,} jobs are {_DONE_WORDS[action]}.")
    if result["skipped"]:
        output.note(f"{result['skipped']:,} were no longer like that when it came to them.")
    for refusal in result["errors"]:
        output.error(output.redact.text(refusal["message"]))
    if result["refused"] > len(result["errors"]):
        output.note(f"{result['refused']:,} were refused in all.")
    return REFUSED if result["refused"] else DONE
