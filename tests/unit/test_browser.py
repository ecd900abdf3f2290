"""The browser of the tests: it is there, and it runs what a page says."""

from __future__ import annotations

from support.browser import chromium


async def test_a_page_is_drawn_and_its_script_runs() -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        await page.set_content("<h1>queued</h1><script>document.querySelector('h1').textContent = 'done'</script>")

        assert await page.inner_text("h1") == "done"
        assert len(await page.screenshot()) > 1000
