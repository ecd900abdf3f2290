"""Sending letters by SMTP, each once: the id of the message is the key of the effect."""

from __future__ import annotations

import smtplib
from email.message import EmailMessage

from pydantic import BaseModel

from taurine.demo.mailbox import Mailbox
from taurine.demo.places import Places
from taurine.jobs.handler.context import Context

__all__ = ["DOMAIN", "Mailer", "Receipt"]

DOMAIN = "desk.example"

_TIMEOUT = 30.0
"""Seconds that the mail server may take for one answer."""


class Receipt(BaseModel):
    """What is known of a letter that was sent.

    looked_up: it was found in the mailbox, since nobody knew whether it had been sent.
    """

    message_id: str
    looked_up: bool = False


class Mailer:
    """One process's way to the mail server. May be used from any thread; close it at the end."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._mailbox = Mailbox(places.mailbox)

    def close(self) -> None:
        self._mailbox.close()

    def send_once(self, ctx: Context, name: str, *, to: str, subject: str, body: str) -> Receipt:
        """Send the letter of this name, unless it was sent before. For plain functions.

        A worker that dies between the server's taking and the ledger's commit leaves the question whether it was sent;
        the mailbox answers it. An answer of the server that is no yes proves that it was not.
        """
        message_id = f"{name}@{DOMAIN}"
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = f"desk@{DOMAIN}", to, subject
        message["Message-ID"] = f"<{message_id}>"
        message.set_content(body)
        receipt = ctx.once_sync(
            message_id,
            self._send,
            message,
            look_up=lambda: self._look_up(message_id),
            not_done=(smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused),
        )
        return Receipt.model_validate(receipt)

    def _send(self, message: EmailMessage) -> dict[str, object]:
        port = self._places.smtp_port()
        if port is None:
            raise ConnectionRefusedError("the mail server is not there yet")
        with smtplib.SMTP("127.0.0.1", port, local_hostname=DOMAIN, timeout=_TIMEOUT) as server:
            server.send_message(message)
        return Receipt(message_id=str(message["Message-ID"]).strip("<>")).model_dump()

    def _look_up(self, message_id: str) -> dict[str, object] | None:
        if self._mailbox.find(message_id) is None:
            return None
        return Receipt(message_id=message_id, looked_up=True).model_dump()
