"""A real browser, logged in, on pages that are not ours: what they make it do changes nothing and shows nothing (A27,
A28, A35, A55).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from argon2 import PasswordHasher
from playwright.async_api import BrowserContext, Error, Page, Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from support.browser import chromium
from taurine.app import Taurine
from taurine.http import create_app
from taurine.http.access.access import Access
from taurine.http.serving import listen, serve

EVIL = """<!doctype html><title>evil</title>
<form id=form method=post enctype=text/plain action="{api}/v1/jobs/thing.keep" target=sink>
<input name='{{"payload": "forged", "x": "' value='"}}'></form>
<iframe name=sink></iframe><iframe id=framed src="{api}/v1/jobs"></iframe>"""


@dataclass
class Site:
    """api: ours, by the name localhost. evil: another site, by its number, with a page that frames ours."""

    api: str
    evil: str
    app: Taurine


@contextlib.asynccontextmanager
async def served(asgi: Any, host: str) -> AsyncGenerator[str]:
    listening = listen("127.0.0.1", 0)
    ready = asyncio.Event()
    task = asyncio.create_task(serve(asgi, listening, ready=ready.set, grace=1.0, lifespan=False))
    try:
        async with asyncio.timeout(20):
            await ready.wait()
        yield f"http://{host}:{listening.getsockname()[1]}"
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def evil_site(api: str) -> Starlette:
    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(EVIL.format(api=api))

    return Starlette(routes=[Route("/", page)])


@pytest.fixture
async def site(app: Taurine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr("taurine.jobs.credentials.passwords._recommended", lambda: cheap)
    await app.admins.add("ada", "correct horse battery")
    api = create_app(app, access=Access(), answer_within=30)
    async with served(api, "localhost") as ours, served(evil_site(ours), "127.0.0.1") as evil:
        yield Site(ours, evil, app)


async def logged_in(context: BrowserContext, site: Site) -> None:
    answer = await context.request.post(
        f"{site.api}/v1/session", data={"name": "ada", "password": "correct horse battery"}
    )
    assert answer.status == 200, await answer.text()


async def settled(page: Page, script: str, *arguments: str) -> str:
    """What a script's promise comes to, as text."""
    return str(
        await page.evaluate(f"async (given) => {{ try {{ {script} }} catch (e) {{ return 'refused' }} }}", [*arguments])
    )


async def test_a_page_of_another_site_can_do_nothing_with_somebodys_session(site: Site) -> None:
    """A27, A28, A35."""
    async with chromium() as browser:
        context = await browser.new_context()
        await logged_in(context, site)
        answers: list[Response] = []

        def note(answer: Response) -> None:
            answers.append(answer)

        context.on("response", note)
        page = await context.new_page()

        # A page of our own, as the dashboard will be: it may.
        await context.route(f"{site.api}/own", lambda route: route.fulfill(content_type="text/html", body="<p>own</p>"))
        await page.goto(f"{site.api}/own")
        enqueue = """const a = await fetch(given[0] + '/v1/jobs/thing.keep', {method: 'POST', credentials: 'include', mode: given[1],
            headers: {'Content-Type': given[2]}, body: '{"payload": "forged"}'}); return a.status"""
        assert await settled(page, enqueue, site.api, "same-origin", "application/json") == "202"

        # The same from a page of a stranger's, in every way that a browser has.
        await page.goto(f"{site.evil}/")
        assert await settled(page, enqueue, site.api, "cors", "application/json") == "refused"
        assert await settled(page, enqueue, site.api, "no-cors", "text/plain") == "refused"
        async with page.expect_response(lambda answer: answer.url.endswith("/thing.keep")) as posted:
            await page.evaluate("document.getElementById('form').submit()")
        assert (await posted.value).status == 403
        read = "const a = await fetch(given[0] + '/v1/jobs', {credentials: 'include'}); return await a.text()"
        assert await settled(page, read, site.api) == "refused"
        forged = [
            answer for answer in answers if answer.url.endswith("/thing.keep") and answer.request.method == "POST"
        ]
        assert [answer.status for answer in forged] == [
            202,
            403,
        ]  # of the page's own script the browser keeps even that back
        # Nothing of it was done, and nothing of ours stands in the stranger's frame.
        assert len((await site.app.list()).items) == 1
        framed = page.frame(url=f"{site.api}/v1/jobs")
        assert framed is None or "items" not in await framed.content()


async def test_what_the_api_answers_runs_and_loads_nothing(site: Site) -> None:
    """A35: even an answer that somebody opened as a page, and that says what it likes."""
    async with chromium() as browser:
        context = await browser.new_context()
        await logged_in(context, site)
        await site.app.enqueue("thing.keep", "<script>document.title = 'run'</script><img src=/x>", job_id="a")
        page = await context.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        await page.goto(f"{site.api}/v1/jobs/a")
        assert "<script>" in await page.inner_text("body")
        assert await page.title() != "run"
        assert await settled(page, "return (await fetch(given[0])).status", f"{site.api}/v1/jobs") == "refused"
        with pytest.raises(Error, match="Content Security Policy"):
            await page.add_script_tag(content="document.title = 'run'")
        assert await page.evaluate("document.cookie") == ""
        assert [url for url in requested if "favicon" not in url] == [f"{site.api}/v1/jobs/a"]
