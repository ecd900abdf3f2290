"""Who is told: webhooks over real sockets, and letters through a real SMTP server."""

from __future__ import annotations

import asyncio
import contextlib
import email
import email.policy
import hmac
import json
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.message import EmailMessage
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from smtplib import SMTPException
from threading import Event, Thread
from typing import Any, TypeAlias, cast, get_type_hints

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from taurine.errors import InvalidOption
from taurine.jobs.reporting.alerts import Alert
from taurine.observe.alerts import AlertDocument, EmailSink, WebhookRefused, WebhookSink, document_of, is_signed

RAISED = Alert(
    "dead_letters_depth",
    "",
    "",
    "mail",
    None,
    "queue 'mail' has 11 dead letters, more than 10",
    severity="warning",
    rule="dead_letters_depth",
    subject="mail",
    value=11.0,
    limit=10.0,
    raised_at=1_893_456_000.0,
    application="shop",
    id="0123456789abcdef",
)
HOSTILE = RAISED._replace(message="<!channel> & x\r\nBcc: all@example.com\r\n\r\n.\r\nDATA", job_id="a\nb")


# The document -----------------------------------------------------------------------------------------------------------------------


def test_the_document_of_an_alert() -> None:
    """TRG-74: its members are those of the type, and empty ones are null."""
    document = document_of(RAISED)

    assert set(document) == set(get_type_hints(AlertDocument))
    assert document["version"] == 1
    assert (document["id"], document["state"], document["severity"]) == ("0123456789abcdef", "raised", "warning")
    assert (document["queue"], document["job_id"], document["tenant"]) == ("mail", None, None)
    assert (document["value"], document["limit"], document["raised_at"]) == (11.0, 10.0, "2030-01-01T00:00:00Z")


# Webhooks ---------------------------------------------------------------------------------------------------------------------------


class Receiver:
    """A server that keeps what it is sent, and answers what a test says."""

    def __init__(self) -> None:
        self.status, self.location = 204, ""
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.go_on = Event()
        self.go_on.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append((self.path, dict(self.headers), body))
                receiver.go_on.wait(10)
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - as it is called

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as it is called
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/services/T0/secret-part"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with contextlib.closing(Receiver()) as made:
        yield made


async def test_a_webhook_gets_a_signed_document(receiver: Receiver) -> None:
    """TRG-74."""
    await WebhookSink(receiver.url, secret="s3cret").tell(RAISED)

    ((path, headers, body),) = receiver.requests
    assert path == "/services/T0/secret-part"
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == document_of(RAISED)
    at, signature = headers["Taurine-Timestamp"], headers["Taurine-Signature"]
    assert signature == "v1=" + hmac.new(b"s3cret", at.encode() + b"." + body, sha256).hexdigest()
    assert abs(int(at) - time.time()) < 60
    assert is_signed(body, timestamp=at, signature=signature, secret="s3cret")
    assert not is_signed(body + b" ", timestamp=at, signature=signature, secret="s3cret")
    assert not is_signed(body, timestamp=at, signature=signature, secret="other")
    assert not is_signed(body, timestamp=str(int(at) + 1), signature=signature, secret="s3cret")
    assert not is_signed(body, timestamp=at, signature="v1=é", secret="s3cret")


def test_a_request_that_somebody_has_recorded_is_not_believed() -> None:
    at = str(int(time.time()) - 301)
    signature = "v1=" + hmac.new(b"s", at.encode() + b".{}", sha256).hexdigest()

    assert not is_signed(b"{}", timestamp=at, signature=signature, secret="s")
    assert is_signed(b"{}", timestamp=at, signature=signature, secret="s", within=400)


async def test_slack_gets_its_own_form(receiver: Receiver) -> None:
    """What a job's error says can call nobody."""
    sink = WebhookSink(receiver.url, form="slack")
    await sink.tell(RAISED)
    await sink.tell(HOSTILE._replace(state="over"))

    (first, second) = (json.loads(body) for _, _, body in receiver.requests)
    assert first == {
        "text": ":rotating_light: *shop · dead_letters_depth · warning*\nqueue 'mail' has 11 dead letters, more than 10"
    }
    assert second["text"].startswith(":white_check_mark:")
    assert "&lt;!channel&gt; &amp; x" in second["text"]
    assert not {"Taurine-Signature", "Taurine-Timestamp"} & set(receiver.requests[0][1])


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 500])
async def test_what_is_no_success_is_an_error_and_no_redirect_is_followed(receiver: Receiver, status: int) -> None:
    receiver.status, receiver.location = status, receiver.url.replace("services", "elsewhere")

    with pytest.raises(WebhookRefused, match=rf"http://127\.0\.0\.1:\d+/… answered {status}$") as refused:
        await WebhookSink(receiver.url).tell(RAISED)

    assert len(receiver.requests) == 1
    assert "secret-part" not in str(refused.value)


async def test_a_server_that_hangs_or_is_gone(receiver: Receiver) -> None:
    """A56: neither keeps anybody waiting, and the address is in no message."""
    receiver.go_on.clear()
    sink = WebhookSink(receiver.url, timeout=0.05)
    with pytest.raises(WebhookRefused, match="did not answer: TimeoutError") as hung:
        await sink.tell(RAISED)
    receiver.close()
    with pytest.raises(WebhookRefused, match="cannot be reached: ConnectionRefusedError") as gone:
        await sink.tell(RAISED)
    receiver.close = lambda: None

    for text in (str(hung.value), str(gone.value), sink.name, repr(sink)):
        assert "secret-part" not in text
    assert sink.name != WebhookSink(f"{receiver.url}x").name


async def test_a_sink_that_is_cancelled_leaves_its_thread_behind(receiver: Receiver) -> None:
    receiver.go_on.clear()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await WebhookSink(receiver.url).tell(RAISED)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://host/x", "hooks.slack.com/x", "http://", "http://h/\r\nX: 1", "http://h:x/", ""],
)
def test_addresses_that_are_none_are_refused_without_showing_them(url: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        WebhookSink(url)
    assert len(url) < 8 or url not in str(refused.value)


def test_webhooks_that_cannot_be_meant() -> None:
    with pytest.raises(InvalidOption, match="secret"):
        WebhookSink("https://example.com", secret="")
    with pytest.raises(InvalidOption, match="form"):
        WebhookSink("https://example.com", form="teams")  # pyright: ignore[reportArgumentType] - what is refused


# E-mail -----------------------------------------------------------------------------------------------------------------------------


StartSMTP: TypeAlias = Callable[..., Awaitable[tuple[int, "Mailbox"]]]


class Mailbox:
    """What an SMTP server was given."""

    def __init__(self) -> None:
        self.envelopes: list[tuple[str, list[str], EmailMessage]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.envelopes.append((envelope.mail_from, envelope.rcpt_tos, message))
        return "250 taken"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of this machine, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "certificate.pem", folder / "key.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {made}"
    subprocess.run(["openssl", *words.split()], check=True, capture_output=True)
    return made, key


@pytest.fixture
async def smtp(certificate: tuple[Path, Path]) -> AsyncIterator[StartSMTP]:
    """Start SMTP servers: `await smtp(tls=True)` is one that takes letters after STARTTLS and a login alone."""
    running: list[asyncio.Server] = []

    async def start(*, tls: bool = False) -> tuple[int, Mailbox]:
        mailbox = Mailbox()
        options: dict[str, Any] = {}
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
            options |= {"tls_context": context, "require_starttls": True, "auth_required": True}
            options["authenticator"] = _authenticate
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SMTP(mailbox, loop=loop, **options), "127.0.0.1", 0)
        running.append(server)
        return server.sockets[0].getsockname()[1], mailbox

    yield start
    for server in running:
        server.close()
        await server.wait_closed()


def _authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    login = cast("LoginPassword", data)
    return AuthResult(success=(login.login, login.password) == (b"ops", b"pw"))


async def test_a_letter(smtp: StartSMTP) -> None:
    port, mailbox = await smtp()
    sink = EmailSink(
        "127.0.0.1", port=port, tls="none", sender="shop@example.com", to=["ops@example.com", "dev@example.com"]
    )
    await sink.tell(RAISED)

    ((sender, receivers, letter),) = mailbox.envelopes
    assert (sender, receivers) == ("shop@example.com", ["ops@example.com", "dev@example.com"])
    assert letter["Subject"] == "[shop] WARNING: queue 'mail' has 11 dead letters, more than 10"
    assert letter["Message-ID"] == "<0123456789abcdef.raised@example.com>"
    assert letter["Auto-Submitted"] == "auto-generated"
    lines = letter.get_content().splitlines()
    assert lines[:2] == ["queue 'mail' has 11 dead letters, more than 10", ""]
    assert "raised_at: 2030-01-01T00:00:00Z" in lines
    assert "example.com" not in sink.name + repr(sink)


async def test_what_a_job_says_is_never_a_header_nor_a_command(smtp: StartSMTP) -> None:
    port, mailbox = await smtp()
    sink = EmailSink("127.0.0.1", port=port, tls="none", sender="shop@example.com", to="ops@example.com")
    await sink.tell(HOSTILE)
    await sink.tell(RAISED._replace(message="\ud800é" * 500, application="a\r\nTo: x@example.com"))

    (_, receivers, letter), (_, _, long) = mailbox.envelopes
    assert receivers == ["ops@example.com"]
    assert letter["Bcc"] is None
    assert "Bcc: all@example.com" in letter["Subject"]
    assert "DATA" in letter.get_content()
    assert long.get_all("To") == ["ops@example.com"]
    assert len(long["Subject"]) < 200


async def test_a_letter_over_starttls_with_a_login(smtp: StartSMTP, certificate: tuple[Path, Path]) -> None:
    port, mailbox = await smtp(tls=True)
    context = ssl.create_default_context(cafile=str(certificate[0]))
    options: dict[str, Any] = {"port": port, "sender": "shop@example.com", "to": "ops@example.com", "user": "ops"}

    await EmailSink("localhost", password="pw", context=context, **options).tell(RAISED)
    assert len(mailbox.envelopes) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        await EmailSink("localhost", password="pw", **options).tell(RAISED)
    with pytest.raises(SMTPException):
        await EmailSink("localhost", password="wrong", context=context, **options).tell(RAISED)


async def test_a_server_without_encryption_is_given_no_password(smtp: StartSMTP) -> None:
    port, mailbox = await smtp()
    sink = EmailSink("127.0.0.1", port=port, sender="a@example.com", to="b@example.com", user="ops", password="pw")
    with pytest.raises(SMTPException, match="STARTTLS"):
        await sink.tell(RAISED)
    assert mailbox.envelopes == []


@pytest.mark.parametrize(
    "options",
    [
        {"to": []},
        {"to": "nobody"},
        {"to": "a@example.com\r\nBcc: b@example.com"},
        {"to": "Ops <ops@example.com>"},
        {"sender": "a@example.com>\r\nDATA"},
        {"sender": ""},
        {"tls": "none", "user": "a", "password": "b"},
        {"tls": "ssl"},
        {"user": "a"},
    ],
)
def test_letters_that_cannot_be_meant(options: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"sender": "shop@example.com", "to": "ops@example.com"}
    with pytest.raises(InvalidOption):
        EmailSink("localhost", **(usual | options))
