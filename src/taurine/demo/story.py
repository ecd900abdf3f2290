"""What happens in the demo, in order."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taurine import __version__
from taurine.demo.children import Child
from taurine.demo.desk import Desk
from taurine.demo.display import Display
from taurine.demo.gathering import gather
from taurine.demo.mailbox import Mailbox
from taurine.demo.mending import Mending
from taurine.demo.places import Places
from taurine.demo.texts import texts
from taurine.demo.triaging import Triaging
from taurine.demo.verdict import Evidence, Row, judge
from taurine.demo.waiting import Stuck, until
from taurine.embedded import EmbeddedServer
from taurine.queue import Connection

__all__ = ["Story", "Stuck"]

_UNTIL_REPORT = timedelta(seconds=12)
"""From the beginning to the second of the minute at which the report is written."""


class Story:
    """One run of the demo. home: a directory for its files. tickets: how many, at most."""

    def __init__(self, home: Path, display: Display, *, tickets: int) -> None:
        self._home = home
        self._places = Places(home)
        self._display = display
        self._tickets = tickets
        self._evidence = Evidence()
        self._server_pid: int | None = None

    async def prepare(self) -> Desk:
        """Open the support desk: its tickets, and the time of its report. Returns the application."""
        at = datetime.now(UTC) + _UNTIL_REPORT
        self._places.report_times.write_text(f"{at.second} * * * * *", "ascii")
        self._display.say("Taurine", f"{__version__}: a support desk, in {self._home}")
        desk = Desk(self._home)
        found = await asyncio.to_thread(texts, self._tickets)
        desk.office.tickets.open_desk(found)
        poison = self._evidence.poison
        self._evidence.tickets = desk.office.tickets.numbers()
        poison.number = 1 + len(found) // 3
        poison.job_id = f"triage:{poison.number}"
        desk.office.tickets.garble(poison.number)
        self._display.say(
            "desk", f"{len(found):,} tickets, made of the standard library's own texts; one of them is not readable"
        )
        return desk

    async def tell(self, desk: Desk, server: EmbeddedServer, stack: AsyncExitStack) -> Child:
        """All of it, until the workers are stopped and the witnesses are asked; returns the mail server.

        Whatever is started is put on `stack`, so the caller ends it, also after a cancellation.

        Raises Stuck, ChildFailed, TaurineError.
        """
        self._server_pid = server.pid
        self._display.say("server", f"Valkey on a private unix socket, process {server.pid}; records in SQLite")
        mailbox, connection = Mailbox(self._places.mailbox), Connection(server.url)
        stack.callback(mailbox.close)
        stack.push_async_callback(connection.close)
        half = len(self._evidence.tickets) // 2
        mail = await stack.enter_async_context(Child(self._home, "mailserver", "mailserver", str(half)))
        port = await until(self._smtp_port, "the mail server", needs=[mail])
        self._display.say("mail", f"SMTP on 127.0.0.1:{port}, process {mail.pid}; it counts what it takes")
        await stack.enter_async_context(desk.app)
        workers = [await stack.enter_async_context(self._worker(number)) for number in (1, 2)]
        export = await Triaging(desk, mailbox, connection, self._display, self._evidence).run(workers)
        watch_id = await Mending(desk, mailbox, self._display, self._evidence).run(export, [*workers, mail])
        for worker in workers:
            await self._stop(worker)
        await gather(desk, mailbox, self._evidence, watch_id=watch_id)
        return mail

    async def serve(self, stack: AsyncExitStack) -> None:
        """Start workers anew, for whoever wants to look around."""
        for number in (3, 4):
            await stack.enter_async_context(self._worker(number))

    async def end(self, mail: Child, stack: AsyncExitStack) -> None:
        """Stop everything else."""
        await self._stop(mail)
        await stack.aclose()

    async def check_server(self) -> None:
        """Note whether the server of queues has ended, after its last user."""
        if _is_there(self._server_pid):
            self._evidence.ended_badly = [*self._evidence.ended_badly, f"the server (process {self._server_pid})"]
        else:
            self._evidence.stopped = [*self._evidence.stopped, "Valkey"]

    def judge(self) -> list[Row]:
        """The table, of what is known by now."""
        return judge(self._evidence)

    @property
    def poison_id(self) -> str:
        return self._evidence.poison.job_id

    def _worker(self, number: int) -> Child:
        name = f"worker-{number}"
        return Child(self._home, name, "worker", name)

    async def _stop(self, child: Child) -> None:
        child.check()
        code = await child.stop()
        if code:
            self._evidence.ended_badly = [*self._evidence.ended_badly, f"{child.name} (exit code {code})"]
        else:
            self._evidence.stopped = [*self._evidence.stopped, child.name]

    async def _smtp_port(self) -> int | None:
        return self._places.smtp_port()


def _is_there(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
