"""What one application holds open on one event loop: the ledger, the queues, and what works between them.

Everything is opened at its first use, so that importing and starting an application need neither server. Sockets belong
to an event loop, so each loop has a backend of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from taurine.clock import Clock, now_ms
from taurine.embedded import EmbeddedServer
from taurine.errors import InvalidOption, StoreError
from taurine.heartbeat import Heartbeat
from taurine.jobs.catalog.catalog import Catalog
from taurine.jobs.changes.source import ChangeSource
from taurine.jobs.enqueue.access import Authorize
from taurine.jobs.enqueue.enqueuer import Enqueuer
from taurine.jobs.enqueue.handle import Records
from taurine.jobs.enqueue.standing_in import Accepting
from taurine.jobs.enqueue.tracing import TracedEnqueuer
from taurine.jobs.enqueue.watching import RecordWatch
from taurine.jobs.handover.dispatch import Dispatcher
from taurine.jobs.handover.outbox import Outbox
from taurine.jobs.handover.prompt import PromptHandOver
from taurine.jobs.handover.removal import take_out
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.redaction import Redact
from taurine.jobs.reporting.spans import RedactedTelemetry, Spans
from taurine.ledger.cancellations import request_cancel
from taurine.ledger.completions import apply_completions
from taurine.ledger.database import Database, open_database
from taurine.ledger.group_commit import GroupCommit
from taurine.ledger.migrate import check_schema, migrate
from taurine.ledger.outbox import stamp_dispatched
from taurine.ledger.records import JobRecord, get_record
from taurine.queue import Queue
from taurine.queue.connection import Connection
from taurine.queue.server_changes import ServerChanges
from taurine.settings import Settings
from taurine.telemetry import Telemetry

__all__ = ["Backend"]

_LAST_SECONDS = 1.0
"""Seconds that closing waits for the server of queues; what it does not take by then is the affair of the next process."""

_REMOVAL_SECONDS = 1.0
"""Seconds that a cancel waits for the server of queues; it is valid without it."""


class _Turning(Protocol):
    @property
    def heartbeats(self) -> list[Heartbeat]: ...


class _Events(Protocol):
    async def tell(self, alert: Alert) -> None: ...

    async def close(self) -> None: ...


class Backend:
    """One application on one loop. Used after `ready`, and closed once.

    name: the application's. kept_for: as in `Checks`.
    """

    def __init__(
        self,
        *,
        name: str,
        settings: Settings,
        catalog: Catalog,
        records: Records,
        kept_for: Callable[[str], str | None],
        authorize: Authorize | None,
        clock: Clock,
        random: Random,
        redact: Redact = Redact.DEFAULT,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.settings = settings
        self.catalog = catalog
        self.clock = clock
        self.random = random
        self.redact = redact
        self.telemetry = None if telemetry is None else RedactedTelemetry(telemetry, redact)
        self.spans = None if self.telemetry is None else Spans(self.telemetry)
        self.database: Database = open_database(_database_url(settings))
        self.group = GroupCommit(self.database, at_once=(apply_completions, stamp_dispatched), last=(stamp_dispatched,))
        self.watch = RecordWatch(self.database, clock)
        self.changes = ChangeSource(database=self.database, clock=clock, random=random)
        self.dispatcher = Dispatcher(
            catalog=catalog, queue=self.queue, group=self.group, clock=clock, ended=self._take_back
        )
        self.outbox = Outbox(
            database=self.database,
            dispatcher=self.dispatcher,
            catalog=catalog,
            take_out=self.take_out,
            clock=clock,
            random=random,
            redact=redact,
        )
        self.prompt = PromptHandOver(dispatcher=self.dispatcher, undelivered=self.outbox.ask, clock=clock)
        enqueuer = Enqueuer(
            database=self.database,
            group=self.group,
            prompt=self.prompt,
            records=records,
            authorize=authorize,
            undelivered=self.outbox.ask,
            clock=clock,
            source=name,
            kept_for=kept_for,
            carried=None if self.spans is None else self.spans.carried,
        )
        self.enqueuer: Accepting = enqueuer if self.spans is None else TracedEnqueuer(enqueuer, self.spans)
        self.workers: set[_Turning] = set()
        """Those that run on this loop; each enters itself, and leaves."""
        self.events: _Events | None = None
        """Tells of what happens outside of workers; the application puts it here for the first event."""
        self._opening = asyncio.Lock()
        self.is_ready = False
        self._server: EmbeddedServer | None = None
        self._connection: Connection | None = None
        self._queues: dict[str, Queue] = {}

    @property
    def heartbeats(self) -> list[Heartbeat]:
        """When each loop that runs here has turned last, those of workers included."""
        workers = [beat for worker in self.workers for beat in worker.heartbeats]
        # Each worker names the outbox too, which it shares.
        return list(dict.fromkeys([self.outbox.heartbeat, self.changes.heartbeat, *workers]))

    async def ready(self) -> None:
        """Make sure that the ledger's tables are there: in SQLite, and in development, they are made.

        Raises InvalidOption, SchemaMismatch, LedgerUnavailable, LedgerRefused.
        """
        if self.is_ready:
            return
        if self.settings.env == "production" and self.settings.redis_url is None:
            # Each machine would have queues of its own, and nobody would be told.
            raise InvalidOption(
                "expected redis_url, or the variable TAURINE_REDIS_URL or REDIS_URL, in production: the private server of `home` is for development"
            )
        async with self._opening:
            if self.is_ready:
                return
            if self.database.url.get_backend_name() == "sqlite" or self.settings.env == "dev":
                if self.settings.database_url is None:
                    self.settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
                # One machine's own file, or a developer's database: nobody else plans its changes. Who enqueues is not kept waiting by a lock for long.
                await migrate(self.database, wait=5.0)
            else:
                await check_schema(self.database)
            self.is_ready = True

    async def connection(self) -> Connection:
        """The connection of producers. Starts the embedded server where no other is named."""
        if self._connection is None:
            async with self._opening:
                if self._connection is None:
                    connection = Connection.to(await self._redis_url())
                    # Noted before the first job goes there: workers doubt what was added before.
                    with contextlib.suppress(StoreError):
                        await ServerChanges(connection, self.settings.prefix).latest(now_ms(self.clock))
                    self._connection = connection
        return self._connection

    async def redis_url(self) -> str:
        """Where the queues are. Starts the embedded server where no other is named."""
        async with self._opening:
            return await self._redis_url()

    async def _redis_url(self) -> str:
        if self.settings.redis_url is not None:
            return self.settings.redis_url
        if self._server is None:
            server = EmbeddedServer(self.settings.home)
            await server.start()
            self._server = server
        return self._server.url

    async def queue(self, name: str) -> Queue:
        """The queue of this name."""
        queue = self._queues.get(name)
        if queue is None:
            connection = await self.connection()
            queue = self._queues.setdefault(
                name,
                Queue(name, connection, prefix=self.settings.prefix, telemetry=self.telemetry, clock=self.clock),
            )
        return queue

    # Records ------------------------------------------------------------------------------------------------------------------------

    async def get(self, job_id: str) -> JobRecord | None:
        """The record of this id."""
        await self.ready()
        return await self.database.read(lambda connection: get_record(connection, job_id))

    async def cancel(self, job_id: str, *, reason: str = "cancelled", user: str | None = None) -> JobRecord:
        """See `Taurine.cancel`."""
        await self.ready()
        now = now_ms(self.clock)
        answer = await self.database.write(lambda connection: request_cancel(connection, job_id, now, reason, user))
        if answer.at_once:
            self.watch.tell(job_id)
            # What is not gone in time, the reconciler takes out.
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(_REMOVAL_SECONDS):
                    await self.take_out([answer.record])
        return answer.record

    async def take_out(self, records: Sequence[JobRecord]) -> int:
        """Take jobs out of their queues whose records have ended; returns how many were there.

        One that is being worked on is left.

        Raises StoreUnavailable or StoreRefused, after which some may be gone.
        """
        return await take_out(self.queue, records)

    def _take_back(self, ids: Sequence[str]) -> None:
        self.outbox.take_back(ids)

    async def close(self) -> None:
        """Close everything that was opened; what the outbox was asked for is handed over first, and events that wait
        are written, if their servers answer within a second.

        Everything is closed even where one of the parts cannot be; its error is raised then.
        """
        async with contextlib.AsyncExitStack() as parts:
            parts.push_async_callback(self._close_queues)
            parts.push_async_callback(self.database.close)
            parts.push_async_callback(self.group.close)
            parts.push_async_callback(self.watch.close)
            parts.push_async_callback(self.changes.close)
            parts.push_async_callback(self.outbox.finish, _LAST_SECONDS)
            if self.events is not None:
                parts.push_async_callback(self.events.close)

    async def _close_queues(self) -> None:
        async with contextlib.AsyncExitStack() as parts:
            if self._server is not None:
                parts.push_async_callback(self._server.stop)
            if self._connection is not None:
                parts.push_async_callback(self._connection.close)
            for queue in self._queues.values():
                parts.push_async_callback(queue.close)

    def abandon(self, heir: Backend | None = None) -> None:
        """Let go of everything, in place of `close`, when the event loop is closed already: nothing can be said to a
        server any more.

        heir: goes on with the embedded server, which belongs to no loop. Default: it is no longer used.
        """
        self.database.abandon()
        server, self._server = self._server, None
        if server is None:
            return
        if heir is not None and heir._server is None:
            heir._server = server
        else:
            server.stop_sync()


def _database_url(settings: Settings) -> str:
    return settings.database_url or f"sqlite+pysqlite:///{settings.home.absolute() / 'taurine.db'}"
