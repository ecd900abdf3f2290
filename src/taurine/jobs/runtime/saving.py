"""Saving what an attempt says while it runs, and has still to say when it ends: progress, state, log lines.

Nothing is forgotten before it is committed.
"""

from __future__ import annotations

from taurine.clock import Clock, now_ms
from taurine.jobs.handler.context import Context
from taurine.ledger.fences import Granted
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.job_logs import JobLines, LogLine, append_lines
from taurine.ledger.progress import Progress, save_progress
from taurine.queue.wire import encode_json

__all__ = ["Saver"]


class Saver:
    """Writes through one group commit.

    Raises LedgerUnavailable and LedgerRefused; what was not saved then is saved by the next call.
    """

    def __init__(self, *, group: GroupCommit, clock: Clock) -> None:
        self._group = group
        self._clock = clock

    async def save_progress(self, context: Context) -> Granted:
        """Save progress and state, if they have changed.

        None, or the record's status when a later attempt or an end came first.

        Raises InvalidOption for a state that cannot be saved.
        """
        value, state = context.progress_value, context.changed_state()
        if state is None and not context.progress_changed:
            return None
        granted = await self._group.submit(
            save_progress,
            Progress(
                id=context.job_id,
                fence=context.fence,
                progress=encode_json(value) if context.progress_changed else None,
                state=state,
                at=now_ms(self._clock),
            ),
        )
        context.progress_saved(value)
        if state is not None:
            context.state_saved(state)
        return granted

    async def save_lines(self, context: Context) -> None:
        """Save the lines that wait; those of an attempt that was overtaken are dropped."""
        # Taken first: if the attempt ends meanwhile, what still waits then is posted.
        lines = context.take_lines()
        if not lines:
            return
        try:
            await self._group.submit(append_lines, _of(context, lines))
        except Exception:
            context.put_lines_back(lines)
            raise

    def post_lines(self, context: Context) -> None:
        """Save the last lines of an attempt that ends, in the transaction with its outcome.

        Lost if the ledger is away: they are not worth the wait.
        """
        if lines := context.take_lines():
            self._group.post(append_lines, _of(context, lines))


def _of(context: Context, lines: list[LogLine]) -> JobLines:
    return JobLines(id=context.job_id, fence=context.fence, lines=tuple(lines))
