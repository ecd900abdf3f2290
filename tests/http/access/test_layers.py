"""The layers in front of the routes, each alone: no application, no database, no framework (A27, A28, A33, A35, A55)."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message

from support.api import problem
from taurine.errors import InvalidOption
from taurine.http.access.cross_origin import CrossOrigin
from taurine.http.access.cross_site import CrossSite
from taurine.http.access.hosts import AllowedHosts
from taurine.http.access.origins import Origins
from taurine.http.access.safety_headers import SafetyHeaders

inner = PlainTextResponse("inside")


async def ask(app: ASGIApp, method: str = "GET", headers: Any = (), url: str = "http://localhost/x") -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app)) as client:
        return await client.request(method, url, headers=headers)


async def websocket(app: ASGIApp, headers: list[tuple[str, str]]) -> list[Message]:
    """What the layer sends to one who asks for a WebSocket."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    await app({"type": "websocket", "path": "/x", "headers": raw, "query_string": b""}, receive, send)
    return sent


async def accepting(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "websocket.accept"})


# Host -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:99", "[::1]:8000", "tasks.localhost", "localhost."]
)
async def test_loopbacks_own_names_are_served(host: str) -> None:
    assert (await ask(AllowedHosts(inner), headers={"Host": host})).text == "inside"


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "10.0.0.1"),
        *("localhost@evil.example", "evil.example#localhost", "localhost/evil", "", " ", "[::1", "localhost:port"),
        *("jobs.example.com.evil.example", "example.com", "xexample.org", "0.0.0.0"),
    ],
)
async def test_another_name_is_answered_421(host: str) -> None:
    """A33, A55: DNS rebinding: a name of a stranger's that points to this machine."""
    app = AllowedHosts(inner, hosts=["jobs.example.com", "*.example.org"])
    assert problem(await ask(app, headers={"Host": host})) == (421, "misdirected_request")
    assert (await websocket(AllowedHosts(accepting), [("host", host)]))[0]["type"] == "websocket.close"


async def test_names_that_are_listed_are_served() -> None:
    app = AllowedHosts(inner, hosts=["Jobs.Example.com", "*.example.org", "2001:db8::1"])
    for host in ("jobs.example.com", "jobs.example.com:443", "a.example.org", "a.b.example.org", "[2001:db8::1]:80"):
        assert (await ask(app, headers={"Host": host})).text == "inside", host
    assert (await ask(AllowedHosts(inner, hosts=["*"]), headers={"Host": "any.thing"})).text == "inside"


async def test_two_host_headers_are_one_too_many() -> None:
    assert (
        await ask(AllowedHosts(inner), headers=[("Host", "localhost"), ("Host", "evil.example")])
    ).status_code == 421


@pytest.mark.parametrize(
    "host", ["https://jobs.example.com", "jobs.example.com:80", "jobs.example.com/x", "a.*.com", ""]
)
def test_what_is_no_name_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidOption, match="without scheme, port and path"):
        AllowedHosts(inner, hosts=[host])


# Cross-site ------------------------------------------------------------------------------------------------------------------------

REFUSED: dict[str, dict[str, str]] = {
    "a form of another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "a neighbour below the same domain": {"Sec-Fetch-Site": "same-site", "Origin": "http://evil.localhost"},
    "a sandboxed frame": {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
    "an old browser": {"Origin": "https://evil.example"},
    "an old browser's sandboxed frame": {"Origin": "null"},
    "another port of this machine": {"Origin": "http://localhost:3000"},
    "an origin that only begins like ours": {"Origin": "http://localhost.evil.example"},
    "an origin with a user": {"Origin": "http://localhost@evil.example"},
    "an extension": {"Origin": "chrome-extension://abc"},
    "no origin at all, of another site": {"Sec-Fetch-Site": "cross-site"},
    "a word that there is not": {"Sec-Fetch-Site": "same-origin, cross-site"},
    "a port that is none": {"Origin": "http://localhost:port"},
}
ALLOWED: dict[str, dict[str, str]] = {
    "a page of our own": {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    "a page of our own behind a proxy with another name": {"Sec-Fetch-Site": "same-origin", "Origin": "https://a.b"},
    "who types the address": {"Sec-Fetch-Site": "none"},
    "an old browser": {"Origin": "http://localhost"},
    "an old browser, and a proxy that ends TLS": {"Origin": "https://localhost"},
    "the port written out": {"Origin": "http://localhost:80"},
    "no browser": {},
}
LISTED = {"Sec-Fetch-Site": "cross-site", "Origin": "https://app.example.com"}
CREDENTIALS: list[dict[str, str]] = [{}, {"Cookie": "taurine_session=x"}, {"Authorization": "Basic YTpi"}]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("credential", CREDENTIALS, ids=["nothing", "a cookie", "Basic"])
async def test_a_change_from_another_site_is_refused(case: str, credential: dict[str, str]) -> None:
    """A27, A28: with a cookie, with Basic, and with nothing, since who calls from this machine may need nothing."""
    app = CrossSite(inner, origins=Origins(["https://app.example.com"]))
    for method in ("POST", "PUT", "PATCH", "DELETE", "BREW"):
        answer = await ask(app, method, REFUSED[case] | credential)
        assert problem(answer) == (403, "cross_site_request"), method


async def test_a_page_of_a_listed_origin_calls_with_a_key_and_with_nothing_that_a_browser_adds() -> None:
    app = CrossSite(inner, origins=Origins(["https://app.example.com"]))
    for credential in ({}, {"Authorization": "Bearer taurine_x"}, {"Authorization": "Bearer t", "Cookie": "a=b"}):
        assert (await ask(app, "POST", LISTED | credential)).text == "inside"
    for credential in CREDENTIALS[1:]:
        assert problem(await ask(app, "POST", LISTED | credential)) == (403, "cross_site_request")


@pytest.mark.parametrize("case", ALLOWED)
async def test_a_change_of_our_own_pages_is_not(case: str) -> None:
    app = CrossSite(inner, origins=Origins(["https://app.example.com"]))
    for credential in CREDENTIALS:
        assert (await ask(app, "POST", ALLOWED[case] | credential)).text == "inside"


@pytest.mark.parametrize("case", REFUSED)
async def test_a_key_in_the_header_is_sent_by_no_browser_by_itself(case: str) -> None:
    app = CrossSite(inner, origins=Origins())
    assert (await ask(app, "POST", REFUSED[case] | {"Authorization": "Bearer taurine_x"})).text == "inside"


async def test_looking_changes_nothing_and_passes() -> None:
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (
            await ask(CrossSite(inner, origins=Origins()), method, {"Sec-Fetch-Site": "cross-site"})
        ).status_code == 200


@pytest.mark.parametrize("case", REFUSED)
async def test_a_websocket_of_another_site_is_refused(case: str) -> None:
    """A browser sends cookies with it, and asks nobody before."""
    headers = [("host", "localhost"), *((name.lower(), value) for name, value in REFUSED[case].items())]
    sent = await websocket(CrossSite(accepting, origins=Origins()), headers)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_a_websocket_of_our_own_is_not() -> None:
    sent = await websocket(
        CrossSite(accepting, origins=Origins()), [("host", "localhost:8000"), ("origin", "http://localhost:8000")]
    )
    assert [message["type"] for message in sent] == ["websocket.accept"]


# Cross-origin ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "https://app.example.com.evil.example", "HTTPS://APP.example.com", "*"]
)
async def test_no_origin_may_read_that_is_not_listed(origin: str) -> None:
    """A28: nothing by default, and only an exact list; `null` is every sandboxed frame."""
    ask_first = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    for app in (
        CrossOrigin(inner, origins=Origins()),
        CrossOrigin(inner, origins=Origins(["https://app.example.com"])),
    ):
        for answer in (await ask(app, headers={"Origin": origin}), await ask(app, "OPTIONS", ask_first)):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


async def test_a_listed_origin_may_read_and_never_with_cookies() -> None:
    app = SafetyHeaders(CrossOrigin(inner, origins=Origins(["https://app.example.com"])))
    headers = {"Origin": "https://app.example.com"}
    answer = await ask(app, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com"
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    first = await ask(app, "OPTIONS", headers | {"Access-Control-Request-Method": "DELETE"})
    assert first.status_code == 204
    assert "DELETE" in first.headers["access-control-allow-methods"]
    assert "Authorization" in first.headers["access-control-allow-headers"]
    for given in (answer, first, await ask(app)):
        assert given.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in given.headers


@pytest.mark.parametrize(
    "origin", ["*", "null", "https://*.example.com", "app.example.com", "https://a/b", "https://a@b", "file:///x"]
)
def test_what_is_no_exact_origin_is_refused(origin: str) -> None:
    with pytest.raises(InvalidOption, match="written out"):
        Origins([origin])


# Headers of safety ---------------------------------------------------------------------------------------------------------------------


async def test_every_answer_has_headers_of_safety_refusals_too() -> None:
    """A35: no page shows it in a frame, and nothing in it runs."""
    app = SafetyHeaders(AllowedHosts(CrossSite(inner, origins=Origins())))
    answers = [
        await ask(app),
        await ask(app, headers={"Host": "evil.example"}),
        await ask(app, "POST", {"Sec-Fetch-Site": "cross-site"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 421, 403]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"


async def test_a_route_that_says_it_itself_is_heard() -> None:
    page = PlainTextResponse("x", headers={"Content-Security-Policy": "default-src 'self'", "Cache-Control": "private"})
    answer = await ask(SafetyHeaders(page))
    assert answer.headers.get_list("content-security-policy") == ["default-src 'self'"]
    assert answer.headers.get_list("cache-control") == ["private"]
