"""client.js against real nodes: the same code runs in Node.js, or in a page of Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from playwright.sync_api import Browser, Page

from tests.support.browser import SCRIPTS
from tests.support.npm import node_with
from tests.support.processes import CHECKOUT
from tests.support.servers import die_with_parent

LIVE = CHECKOUT / "tests" / "client" / "live.js"
TOOLS = "client/npm"
# A page without a client of its own.
PAGE = "/health/live"


class Runtime(Protocol):
    """Where JavaScript runs. What it puts into `globalThis` is there for what runs later."""

    def run(self, body: str) -> Any:
        """What the body of an async function returns."""


class NodeJs:
    """A process of Node.js with client.mjs and the WebSocket of `ws`."""

    def __init__(self) -> None:
        node, directory = node_with(TOOLS)
        self._process = subprocess.Popen(
            [node, "drive.mjs"],
            cwd=directory,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent(),
        )
        self._number = 0

    def run(self, body: str) -> Any:
        """What the body of an async function returns."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._number += 1
        self._process.stdin.write(json.dumps([self._number, body]) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["number"] == self._number
        assert "error" not in answer, answer["error"]
        return answer["value"]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


class ChromiumPage:
    """A page with client.js; `url` is of a node, whose origin it has."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        page.goto(f"{url}{PAGE}")
        page.add_script_tag(path=SCRIPTS / "client.js")
        page.add_script_tag(path=LIVE)

    def run(self, body: str) -> Any:
        """What the body of an async function returns."""
        return self.page.evaluate(f"() => inTime(async () => {{ {body} }})")


@contextmanager
def node_js() -> Iterator[Runtime]:
    """A process of Node.js, ended with the block."""
    process = NodeJs()
    try:
        yield process
    finally:
        process.close()


@contextmanager
def page_of(browser: Browser, url: str) -> Iterator[ChromiumPage]:
    """A page in a profile of its own, closed with the block; the node's policy does not bind it."""
    with browser.new_context(bypass_csp=True) as context:
        yield ChromiumPage(context.new_page(), url)
