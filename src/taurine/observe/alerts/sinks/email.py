"""E-mail: an alert as a plain letter, by SMTP."""

from __future__ import annotations

import contextlib
import hashlib
import smtplib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from typing import Literal

from taurine.errors import InvalidOption
from taurine.jobs.reporting.alerts import Alert
from taurine.jobs.reporting.lines import one_line, several_lines
from taurine.observe.alerts.sinks.document import document_of
from taurine.observe.alerts.sinks.own_thread import in_own_thread
from taurine.options import Seconds, to_seconds

__all__ = ["EmailSink"]

_PORTS = {"starttls": 587, "implicit": 465, "none": 25}

_SUBJECT_LENGTH = 150


class EmailSink:
    """Sends each alert as a letter.

    sender, to: addresses. tls: "starttls", which a server without it is refused for; "implicit", encrypted from the
    first byte; "none". Default: "starttls".
    port: Default: 587, 465 or 25, by `tls`. user, password: for servers that ask; they are not sent without encryption.
    context: whom to trust. Default: the machine's authorities.
    timeout: seconds that each step may take. Default: 10.

    A letter that one of several receivers is refused counts as sent. Raises InvalidOption for an address with a line
    break or without `@`, no receiver, and a password without `tls`.
    """

    def __init__(
        self,
        host: str,
        *,
        sender: str,
        to: str | Sequence[str],
        port: int | None = None,
        tls: Literal["starttls", "implicit", "none"] = "starttls",
        user: str | None = None,
        password: str | None = None,
        context: ssl.SSLContext | None = None,
        timeout: Seconds = 10.0,
    ) -> None:
        if tls not in _PORTS:
            raise InvalidOption(f'expected tls to be "starttls", "implicit" or "none", got {tls!r:.80}')
        if (user is None) != (password is None):
            raise InvalidOption("expected user and password, or neither")
        if password is not None and tls == "none":
            raise InvalidOption(
                'expected tls="starttls" or "implicit" with a password: it would be readable on its way'
            )
        self._host = host
        self._port = _PORTS[tls] if port is None else port
        self._tls = tls
        self._credentials = None if user is None or password is None else (user, password)
        self._context = context
        self._timeout = to_seconds(timeout, "timeout", minimum=0.01, maximum=60.0)
        self._sender = _address(sender)
        self._to = [_address(one) for one in ([to] if isinstance(to, str) else to)]
        if not self._to:
            raise InvalidOption("expected somebody to send alerts to, got nobody")
        # The addresses are personal data, and a log need not show them.
        told = hashlib.sha256("\n".join((self._sender, *self._to)).encode()).hexdigest()[:8]
        self.name = f"e-mail {host}:{self._port}#{told}"

    def __repr__(self) -> str:
        return f"EmailSink({self._host!r}, to {len(self._to)})"

    async def tell(self, alert: Alert) -> None:
        """Send it. Raises OSError and smtplib.SMTPException."""
        await in_own_thread(partial(self._send, self._letter(alert)))

    def _letter(self, alert: Alert) -> EmailMessage:
        letter = EmailMessage()
        mark = {"raised": alert.severity.upper(), "lasting": f"{alert.severity.upper()}, still", "over": "over"}
        subject = _sendable(one_line(f"[{alert.application}] {mark[alert.state]}: {alert.message}")).replace("\t", " ")
        letter["Subject"] = subject if len(subject) <= _SUBJECT_LENGTH else f"{subject[:_SUBJECT_LENGTH]}…"
        letter["From"] = self._sender
        letter["To"] = ", ".join(self._to)
        letter["Date"] = format_datetime(datetime.now(UTC))
        # The same for a letter that is sent again since nobody knows whether it arrived.
        letter["Message-ID"] = f"<{alert.id or 'alert'}.{alert.state}@{self._sender.rpartition('@')[2]}>"
        letter["Auto-Submitted"] = "auto-generated"
        members = {name: value for name, value in document_of(alert).items() if value is not None and name != "message"}
        lines = [
            several_lines(alert.message),
            "",
            *(f"{name}: {one_line(str(value))}" for name, value in members.items()),
        ]
        letter.set_content(_sendable("\n".join(lines) + "\n"))
        return letter

    def _send(self, letter: EmailMessage) -> None:
        server = self._connected()
        try:
            if self._tls == "starttls":
                server.starttls(context=self._trusted())
            if self._credentials is not None:
                server.login(*self._credentials)
            server.send_message(letter, from_addr=self._sender, to_addrs=self._to)
            with contextlib.suppress(OSError, smtplib.SMTPException):  # the letter is taken
                server.quit()
        finally:
            # Not as a context manager: that says good-bye also to a server that does not answer any more.
            server.close()

    def _connected(self) -> smtplib.SMTP:
        if self._tls == "implicit":
            return smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=self._trusted())
        return smtplib.SMTP(self._host, self._port, timeout=self._timeout)

    def _trusted(self) -> ssl.SSLContext:
        return self._context or ssl.create_default_context()


def _sendable(text: str) -> str:
    """Halves of characters, which JSON can hold, have no bytes."""
    return text.encode(errors="replace").decode()


def _address(text: str) -> str:
    """`text`, if it is one address and nothing else: no second header, and no second command to the server."""
    try:
        parsed = Address(addr_spec=text)
    except (ValueError, IndexError, TypeError):
        parsed = None
    if parsed is None or not parsed.domain or not text.isprintable() or not text.isascii() or " " in text:
        raise InvalidOption(f"expected an e-mail address such as ops@example.com, got {text!r:.200}")
    return text
