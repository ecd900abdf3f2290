"""A real browser for the tests of pages: Chromium without a window, driven by Playwright.

    async with chromium() as browser:
        page = await browser.new_page()

`make test` brings Chromium with the packages for Node, where they have a build for the machine (Linux on x86-64);
elsewhere it is the Chromium or Chrome that is installed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from playwright.async_api import Browser, async_playwright

__all__ = ["chromium"]

_UNPACKED = Path(__file__).parents[2] / "node_modules" / ".chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_MAC_APPLICATION = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
_OPTIONS = (
    "--no-sandbox",  # which needs a user other than root, and what is shown here is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",  # small in containers
    # It would look for its maker's servers.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def _program() -> Path | str:
    unpacked = _UNPACKED / "chromium"
    installed = unpacked if unpacked.exists() else next(filter(None, map(shutil.which, _NAMES)), None)
    if installed is None and sys.platform == "darwin" and Path(_MAC_APPLICATION).exists():
        installed = _MAC_APPLICATION
    assert installed, "no browser: run the tests with `make test`, or install Chromium or Chrome"
    return installed


@contextlib.asynccontextmanager
async def chromium() -> AsyncGenerator[Browser]:
    """A running browser, with no page yet; it has ended after the block."""
    program = _program()
    # A small machine lacks some of what it is linked with.
    libraries = os.pathsep.join(filter(None, [os.environ.get("LD_LIBRARY_PATH"), str(_UNPACKED / "lib")]))
    environment: dict[str, str | float | bool] = {**os.environ, "LD_LIBRARY_PATH": libraries}
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(_OPTIONS), env=environment)
        try:
            yield browser
        finally:
            await browser.close()
