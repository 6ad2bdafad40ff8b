"""A real browser for tests: Debian's Chromium, without a window, driven by Playwright.

Use it in a fixture of one module: while Playwright's synchronous interface runs, its thread has an event loop, in
which tests of asyncio could not start theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, Route, expect, sync_playwright

from tests.support.cluster import require_program
from tests.support.processes import CHECKOUT

RunScript = Callable[[str], Any]

EXPECT_MS = 15_000  # what a page shows within that time is in time, also on a busy machine
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


SCRIPTS = CHECKOUT / "realtime" / "static" / "realtime"
HARNESS = CHECKOUT / "tests" / "client" / "harness.js"
ORIGIN = "http://client.test"


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium, ended with the block; without it the test is skipped, or fails where CI=true."""
    executable = require_program("chromium")
    expect.set_options(timeout=EXPECT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def client_js() -> Iterator[RunScript]:
    """A function that runs the body of an async JavaScript function in a fresh page; gives what it returns.

    The page has client.js and, from tests/client/harness.js, time, chance and a server that the body moves.
    """
    with chromium() as browser:
        page = browser.new_page()
        page.route(f"{ORIGIN}/**", _serve)

        def run(body: str) -> Any:
            page.goto(f"{ORIGIN}/")
            page.add_script_tag(path=SCRIPTS / "client.js")
            page.add_script_tag(path=HARNESS)
            return page.evaluate(f"async () => {{ {body} }}")

        yield run


def _serve(route: Route) -> None:
    name = route.request.url.rpartition("/")[2]
    if name.startswith("client."):
        route.fulfill(path=SCRIPTS / name, content_type="text/javascript")
    else:
        route.fulfill(body="<!doctype html><title>client.js</title>", content_type="text/html")
