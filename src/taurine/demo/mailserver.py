"""The mail server's process: real SMTP on the loopback interface, by aiosmtpd.

Two things that mail servers do in life, it does on purpose. It sends some letters away when it sees them for the first
time ("greylisting"), so that they come again.
And from one letter on it takes them and is slow to say so, until it is told to go on: a worker that is killed meanwhile
does not know whether its letter was sent.
"""

from __future__ import annotations

import asyncio
import email
import sys
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope

from taurine.demo.lifeline import told_to_stop
from taurine.demo.mailbox import Mailbox
from taurine.demo.places import Places

_REFUSES_EACH = 25
"""Of letters that it has not seen before, each so-many-th is to come again later."""

_LOOK = 0.02
"""Seconds between looks whether to go on."""


class Deliveries:
    """What happens at the end of a letter.

    hold_at: the number of the first letter whose sender waits for the answer, until the file `go_on` is there.
    """

    def __init__(self, mailbox: Mailbox, *, hold_at: int, go_on: Path) -> None:
        self._mailbox = mailbox
        self._hold_at = hold_at
        self._go_on = go_on
        self._seen: set[str] = set()

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        content = envelope.content
        message = email.message_from_bytes(content if isinstance(content, bytes) else (content or "").encode())
        message_id = str(message["Message-ID"]).strip("<> ")
        if self._is_to_come_again(message_id):
            self._mailbox.refuse(message_id)
            return "451 4.7.1 Greylisted, try again later"
        number = self._mailbox.keep(message_id, ", ".join(envelope.rcpt_tos), str(message["Subject"]))
        while number >= self._hold_at and not self._go_on.exists():  # noqa: ASYNC110 - it comes from another process
            await asyncio.sleep(_LOOK)
        self._mailbox.note_answered(number)
        return "250 2.0.0 Taken"

    def _is_to_come_again(self, message_id: str) -> bool:
        if message_id in self._seen:
            return False
        self._seen.add(message_id)
        return len(self._seen) % _REFUSES_EACH == 0


async def serve(home: Path, hold_at: int) -> None:
    """Take letters until the process is told to stop. The port is any that is free, written down when it can be used."""
    places = Places(home)
    mailbox = Mailbox(places.mailbox)
    deliveries = Deliveries(mailbox, hold_at=hold_at, go_on=places.mail_goes_on)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(deliveries, hostname="desk.example", loop=loop), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    places.announce_smtp_port(port)
    await told_to_stop()
    server.close()
    mailbox.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
