"""Webhooks: an alert by HTTP, as a document of our own or in Slack's words."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from functools import partial
from http.client import HTTPException, HTTPMessage
from typing import IO, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from taurine.errors import InvalidOption, TaurineError
from taurine.jobs.reporting.alerts import Alert
from taurine.observe.alerts.sinks.document import document_of
from taurine.observe.alerts.sinks.own_thread import in_own_thread
from taurine.options import Seconds, to_seconds

__all__ = ["WebhookRefused", "WebhookSink", "is_signed"]

_MARKS = {"raised": ":rotating_light:", "lasting": ":hourglass:", "over": ":white_check_mark:"}


class WebhookRefused(TaurineError):
    """A webhook did not take an alert. What it answered is not kept."""


class WebhookSink:
    """Sends each alert with POST to `url`.

    form: "json", an `AlertDocument`; "slack", a message for an incoming webhook of Slack, or of those that speak its
    words. Default: "json".
    secret: with it each request is signed; see `is_signed`. Default: it is not. timeout: seconds that connecting, and
    each read, may take. Default: 10.

    An answer from 200 to 299 is a success; redirects are not followed, and what is answered is not read. The address
    may be a secret, as Slack's are: logs show its scheme and host alone.
    The variables of the environment for proxies hold. Raises InvalidOption for an address that is not http or https,
    and for an empty secret.
    """

    def __init__(
        self,
        url: str,
        *,
        form: Literal["json", "slack"] = "json",
        secret: str | None = None,
        timeout: Seconds = 10.0,
    ) -> None:
        self._url = _checked(url)
        if form not in ("json", "slack"):  # pyright: ignore[reportUnnecessaryContains] - untyped callers
            raise InvalidOption(f'expected form to be "json" or "slack", got {form!r:.80}')
        if secret is not None and not secret:
            raise InvalidOption("expected a secret for the webhook, got an empty one")
        self._form: Literal["json", "slack"] = form
        self._secret = secret
        self._timeout = to_seconds(timeout, "timeout", minimum=0.01, maximum=60.0)
        parts = urlsplit(self._url)
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}/…"
        # Two of one host are told apart.
        self.name = f"webhook {self._shown}#{hashlib.sha256(self._url.encode()).hexdigest()[:8]}"

    def __repr__(self) -> str:
        return f"WebhookSink({self._shown!r}, form={self._form!r})"

    async def tell(self, alert: Alert) -> None:
        """Send it. Raises WebhookRefused for an answer that is no success, and for a server that cannot be reached."""
        content = _in_slack(alert) if self._form == "slack" else document_of(alert)
        body = json.dumps(content, ensure_ascii=False).encode(errors="replace")
        headers = {"Content-Type": "application/json", "User-Agent": "taurine"}
        if self._secret is not None:
            at = str(int(time.time()))
            headers |= {"Taurine-Timestamp": at, "Taurine-Signature": f"v1={_signature(self._secret, at, body)}"}
        await in_own_thread(partial(self._post, Request(self._url, body, headers, method="POST")))

    def _post(self, request: Request) -> None:
        try:
            with build_opener(_NoRedirects()).open(request, timeout=self._timeout):
                return
        except HTTPError as error:
            error.close()
            raise WebhookRefused(f"{self._shown} answered {error.code}") from None
        except URLError as error:
            raise WebhookRefused(f"{self._shown} cannot be reached: {type(error.reason).__name__}") from None
        except (OSError, HTTPException) as error:
            raise WebhookRefused(f"{self._shown} did not answer: {type(error).__name__}") from None


class _NoRedirects(HTTPRedirectHandler):
    """Who answers with another address may be sending us into our own network."""

    def redirect_request(  # noqa: PLR0917 - as urllib calls it
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


def is_signed(body: bytes, *, timestamp: str, signature: str, secret: str, within: Seconds = 300.0) -> bool:
    """Whether a request comes from a `WebhookSink` with this secret: what a receiver asks before it believes it.

    body: as it was received. timestamp, signature: the headers `Taurine-Timestamp`, seconds since the epoch, and
    `Taurine-Signature`: "v1=" and the HMAC-SHA256, in hexadecimal digits, of the timestamp, a dot and the body. within:
    seconds that the time may be off; one that is older may be a request that somebody has recorded. Default: 300.
    """
    expected = f"v1={_signature(secret, timestamp, body)}"
    if not hmac.compare_digest(expected.encode(), signature.encode(errors="replace")):
        return False
    return timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= to_seconds(within, "within")


def _signature(secret: str, timestamp: str, body: bytes) -> str:
    signed = timestamp.encode(errors="replace") + b"." + body
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def _in_slack(alert: Alert) -> dict[str, str]:
    about = " · ".join(part for part in (alert.application, alert.rule or alert.kind, alert.severity) if part)
    job = f"\njob `{_escaped(alert.job_id)}`" if alert.job_id else ""
    return {"text": f"{_MARKS[alert.state]} *{_escaped(about)}*\n{_escaped(alert.message)}{job}"}


def _escaped(text: str) -> str:
    """What Slack asks for; `<!channel>` in an error's text calls nobody then."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidOption(
            "expected the address of a webhook, with https:// or http://; it is not shown, as it may be a secret"
        )
    return url
