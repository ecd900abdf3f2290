"""`taurine dead`: the jobs that failed for good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from taurine.cli.commands.options import AsJson, DryRun, User, Yes
from taurine.cli.failures import DONE, NO, REFUSED, codes, exit_code_of
from taurine.cli.running import run
from taurine.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from taurine.app import Taurine
    from taurine.cli.output import Output
    from taurine.jobs.operations.bulk_orders import BulkFilter, Matching
    from taurine.jobs.operations.dead_letters import Outcomes
    from taurine.jobs.reporting.redaction import Redact
    from taurine.ledger.dead_letters import DeadLetterFilter

__all__ = ["add_to"]

_COUNTED = 10_000
"""Entries that are counted before a question; more are many."""

_WITH_CAUSE = 180
"""Columns of a terminal from which there is room for the fingerprint of what failed."""

_LARGE = 1000
"""Entries above which a job deals with them, and not this process alone."""

Queue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Of this queue.")]
Type = Annotated[str | None, typer.Option("--type", metavar="NAME", help="Of this job type.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Of this tenant.")]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", metavar="HEX", help="Of this cause: what `dead show` has under that name."),
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID…]", help="Entries, by their ids or their jobs'; or a filter, or --all."),
]
All = Annotated[bool, typer.Option("--all", help="All that are open.")]
Most = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="No more than so many, the latest failures.")
]


def add_to(program: typer.Typer) -> None:
    """Put it under the program's name."""
    family = typer.Typer(rich_markup_mode=None)
    family.callback(invoke_without_command=True, epilog=codes())(dead)
    family.command("list", epilog=codes())(show_all)
    family.command("show", epilog=codes())(show)
    family.command("redrive", epilog=codes())(redrive)
    family.command("discard", epilog=codes())(discard)
    program.add_typer(family, name="dead")


def dead(context: typer.Context, as_json: AsJson = False) -> None:
    """Look at jobs that failed for good, and run them again. Edited or not; or put them aside."""
    if context.invoked_subcommand is None:
        show_all(context, as_json=as_json)


def show_all(
    context: typer.Context,
    *,
    status: Annotated[str, typer.Option(metavar="WORD", help="open, redriven, discarded, or all.")] = "open",
    queue: Queue = None,
    job_type: Type = None,
    tenant: Tenant = None,
    fingerprint: Fingerprint = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=500, help="Entries on a page.")] = 50,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="Where the page before ended.")] = None,
    as_json: AsJson = False,
) -> None:
    """List entries, the latest failure first."""

    async def look(app: Taurine, output: Output) -> None:
        from taurine.cli.forms import age, cause, dead_letter_json

        page = await app.dead_letters.list(
            status=_status(status),
            queue=queue,
            type=job_type,
            tenant=tenant,
            fingerprint=fingerprint,
            limit=limit,
            cursor=cursor,
        )
        if output.as_json:
            output.json(
                {
                    "dead_letters": [dead_letter_json(entry, output.redact) for entry in page],
                    "next_cursor": page.next_cursor,
                }
            )
            return
        wide = output.width >= _WITH_CAUSE
        rows = [
            (
                entry.id,
                entry.job_id,
                entry.type,
                entry.queue,
                entry.reason,
                entry.attempts,
                age(entry.failed_at),
                *((entry.error_fingerprint,) if wide else ()),
                _first_line(cause(entry.error, output.redact)),
            )
            for entry in page
        ]
        if rows:
            causes = ("cause",) if wide else ()
            output.table(("id", "job", "type", "queue", "reason", "attempts", "age", *causes, "error"), rows)
        else:
            output.note("No dead letters.")
        if page.next_cursor is not None:
            output.hint(f"there are more: add --cursor {page.next_cursor}")

    run(context, look, as_json=as_json)


def show(
    context: typer.Context,
    *,
    entry_id: Annotated[str, typer.Argument(metavar="ID", help="The entry's id, or its job's.")],
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Show one entry: what failed, in which attempts, what its handler wrote, and who did what."""

    async def look(app: Taurine, output: Output) -> int:
        from taurine.cli.forms import (
            action_json,
            attempt_json,
            cause,
            dead_letter_json,
            json_text,
            log_line_json,
            time_text,
        )

        known = await app.dead_letters.get(entry_id, tenant=tenant)
        if known is None:
            output.error(f"there is no dead letter {entry_id!r:.80}", hint="`taurine dead` lists what there is")
            return NO
        found = await app.dead_letters.examine(known, tenant=tenant)
        if output.as_json:
            output.json(
                {
                    "dead_letter": dead_letter_json(found.entry, output.redact),
                    "attempts": [attempt_json(attempt, output.redact) for attempt in found.attempts],
                    "logs": [log_line_json(line, output.redact) for line in found.lines],
                    "actions": [*map(action_json, found.actions)],
                }
            )
            return DONE
        entry = found.entry
        output.facts(
            [
                ("id", entry.id),
                ("job", entry.job_id),
                ("type", entry.type),
                ("queue", entry.queue),
                ("tenant", entry.tenant),
                ("status", entry.status),
                ("reason", f"{entry.reason}, after {entry.attempts} attempts"),
                ("failed", time_text(entry.failed_at)),
                ("payload", json_text(entry.payload_json, output.redact)),
                ("error", cause(entry.error, output.redact)),
                ("cause", entry.error_fingerprint),
                ("resolved by", entry.resolved_by),
                ("redriven as", entry.redriven_as),
            ]
        )
        if traceback := (entry.error or {}).get("traceback"):
            output.line()
            output.line(output.redact.text(str(traceback).rstrip()))
        for line in found.lines:
            output.line(f"{line.level:<8} {output.redact.text(line.message)}")
        if entry.status == "open":
            output.hint(f"`taurine dead redrive {entry.id}` runs it again, with --edit JSON with another payload")
        return DONE

    run(context, look, as_json=as_json)


def redrive(
    context: typer.Context,
    *,
    entry_ids: Ids = None,
    edit: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Another payload: JSON, @FILE or -; of one entry. Needs --app."),
    ] = None,
    queue: Queue = None,
    job_type: Type = None,
    tenant: Tenant = None,
    fingerprint: Fingerprint = None,
    everything: All = False,
    limit: Most = None,
    rate: Annotated[float | None, typer.Option(metavar="N", help="Jobs a second at most. Default: no limit.")] = None,
    dry_run: DryRun = False,
    user: User = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Run jobs of entries again, each with all its attempts: those of these ids, or all that a filter lets through."""

    async def again(app: Taurine, output: Output) -> int:
        from taurine.cli.forms import record_json
        from taurine.cli.reading import read_payload

        if edit is not None:
            if entry_ids is None or len(entry_ids) != 1:
                raise InvalidOption("--edit is for one entry; name it by its id")
            payload = read_payload(edit, "--edit")
            record = await app.dead_letters.redrive(entry_ids[0], payload=payload, user=user, tenant=tenant)
            outcomes: Any = _done([record])
        else:
            which = _chosen(
                entry_ids, queue=queue, job_type=job_type, tenant=tenant, fingerprint=fingerprint, everything=everything
            )
            if dry_run:
                return await _tell_number(app, output, "redrive", which)
            if not await _agreed(app, output, "Run again", which, limit, yes=yes):
                return REFUSED
            if (found := await _many(app, "redrive", which)) is not None:
                return await _in_bulk(app, output, found, limit=limit, rate=rate, user=user)
            outcomes = await app.dead_letters.redrive(
                cast("Any", which), user=user, tenant=tenant, limit=limit, rate=rate
            )
        return _report(output, outcomes, "jobs", record_json, lambda record: f"{record.id} is {record.status} again")

    run(context, again, as_json=as_json, needs_types=edit is not None)


def discard(
    context: typer.Context,
    *,
    entry_ids: Ids = None,
    queue: Queue = None,
    job_type: Type = None,
    tenant: Tenant = None,
    fingerprint: Fingerprint = None,
    everything: All = False,
    limit: Most = None,
    dry_run: DryRun = False,
    user: User = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Put entries aside: their jobs stay failed, and nobody need look at them any more."""

    async def put_aside(app: Taurine, output: Output) -> int:
        from taurine.cli.forms import dead_letter_json

        which = _chosen(
            entry_ids, queue=queue, job_type=job_type, tenant=tenant, fingerprint=fingerprint, everything=everything
        )
        if dry_run:
            return await _tell_number(app, output, "discard", which)
        if not await _agreed(app, output, "Put aside", which, limit, yes=yes):
            return REFUSED
        if (found := await _many(app, "discard", which)) is not None:
            return await _in_bulk(app, output, found, limit=limit, rate=None, user=user)
        outcomes = await app.dead_letters.discard(cast("Any", which), user=user, tenant=tenant, limit=limit)
        return _report(output, outcomes, "dead_letters", dead_letter_json, lambda entry: f"{entry.id} is put aside")

    run(context, put_aside, as_json=as_json)


@dataclass(frozen=True)
class _Many:
    """So many entries that a job deals with them, which is gone on with should this process be killed."""

    action: Literal["redrive", "discard"]
    where: BulkFilter
    tenant: str | None
    matching: Matching


async def _many(
    app: Taurine, action: Literal["redrive", "discard"], which: list[str] | DeadLetterFilter
) -> _Many | None:
    if isinstance(which, list):
        return None
    where = _where(which)
    matching = await app.bulk.count(action, where, tenant=which.tenant)
    return _Many(action, where, which.tenant, matching) if matching.number > _LARGE else None


async def _tell_number(
    app: Taurine, output: Output, action: Literal["redrive", "discard"], which: list[str] | DeadLetterFilter
) -> int:
    from taurine.cli.in_bulk import tell_number

    if isinstance(which, list):
        raise InvalidOption("--dry-run is of a filter, and here are ids")
    found = await app.bulk.count(action, _where(which), tenant=which.tenant)
    more = "" if found.exact else " or more"
    tell_number(output, found, f"{found.number:,}{more} open dead letters{_words_of(which)}")
    return DONE


def _where(which: DeadLetterFilter) -> BulkFilter:
    from taurine.jobs.operations.bulk_orders import BulkFilter

    return BulkFilter(queue=which.queue, type=which.type, fingerprint=which.error_fingerprint)


def _words_of(which: DeadLetterFilter) -> str:
    """` of type a of queue b`."""
    names = (
        ("type", which.type),
        ("queue", which.queue),
        ("tenant", which.tenant),
        ("cause", which.error_fingerprint),
    )
    return "".join(f" of {name} {value}" for name, value in names if value is not None)


async def _in_bulk(
    app: Taurine, output: Output, many: _Many, *, limit: int | None, rate: float | None, user: str | None
) -> int:
    from taurine.cli.in_bulk import carried_out, report

    handle = await app.bulk.start(
        many.action, where=many.where, at=many.matching.at, limit=limit, rate=rate, user=user, tenant=many.tenant
    )
    return report(output, await carried_out(app, output, handle.id), many.action)


def _status(word: str) -> Any:
    from taurine.errors import did_you_mean

    known = ("open", "redriven", "discarded", "all")
    if word not in known:
        raise InvalidOption(f"expected --status to be {', '.join(known)}, got {word!r:.40}{did_you_mean(word, known)}")
    return None if word == "all" else word


def _chosen(
    ids: list[str] | None,
    *,
    queue: str | None,
    job_type: str | None,
    tenant: str | None,
    fingerprint: str | None,
    everything: bool,
) -> list[str] | DeadLetterFilter:
    """The entries that are meant. A filter and ids exclude each other, and nothing at all is not taken for everything."""
    from taurine.ledger.dead_letters import DeadLetterFilter

    filtered = any(value is not None for value in (queue, job_type, fingerprint))
    if ids:
        if filtered or everything:
            raise InvalidOption("expected ids, or a filter, or --all; got several of them")
        return ids
    if not filtered and tenant is None and not everything:
        raise InvalidOption("expected the ids of entries, a filter such as --type, or --all")
    return DeadLetterFilter(status="open", queue=queue, type=job_type, tenant=tenant, error_fingerprint=fingerprint)


async def _agreed(
    app: Taurine, output: Output, what: str, which: list[str] | DeadLetterFilter, limit: int | None, *, yes: bool
) -> bool:
    """Ask before something is done to entries that were not named one by one, with their number and the filter in
    words.
    """
    from taurine.cli.asking import confirmed

    if yes or isinstance(which, list):
        return True
    number = 0
    async for _ in app.dead_letters.list(
        queue=which.queue, type=which.type, tenant=which.tenant, fingerprint=which.error_fingerprint, limit=500
    ):
        number += 1
        if number == (limit or _COUNTED):
            break
    if not number:
        output.note("No open dead letter is like that.")
        return True
    many = "or more " if number == _COUNTED and limit is None else ""
    return confirmed(output, f"{what} {number:,} {many}dead letters{_words_of(which)}?", yes=False)


def _done(records: list[Any]) -> Outcomes[Any]:
    from taurine.jobs.operations.dead_letters import Outcomes

    return Outcomes(done=records)


def _report(
    output: Output, outcomes: Outcomes[Any], name: str, form: Callable[[Any, Redact], Any], told: Callable[[Any], str]
) -> int:
    if output.as_json:
        refused = [
            {"id": error.job_id, "error": type(error).__name__, "message": output.redact.text(str(error))}
            for error in outcomes.refused
        ]
        output.json({name: [form(one, output.redact) for one in outcomes.done], "refused": refused})
    else:
        for one in outcomes.done:
            output.line(told(one))
    for error in outcomes.refused:
        output.error(output.redact.text(str(error)))
    return max((exit_code_of(error) for error in outcomes.refused), default=DONE)


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0][:80]
