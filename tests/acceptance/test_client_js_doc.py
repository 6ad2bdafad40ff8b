"""docs/client.md: its examples run, on a real node, and its tables name what client.js has."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, Route

from realtime.auth import issue_token
from tests.support.browser import SCRIPTS, chromium
from tests.support.client_js import TOOLS, ChromiumPage, page_of
from tests.support.cluster import Cluster
from tests.support.npm import node_with
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer

TEXT = (CHECKOUT / "docs" / "client.md").read_text()
USER = "42"

# What the page of an example is supposed to have: functions that show something, and a client.
AROUND = """
globalThis.calls = [];
for (const name of ["show", "showState", "showUnsent", "showUnsure", "reloadFromServer"]) {
  globalThis[name] = (...details) => { calls.push([name, ...details]); happened(); };
}
globalThis.client = start("/ws/");
await until(() => globalThis.client.state === "open");
"""
CALLED = "calls.some(([name]) => name === {!r})"


@dataclass(frozen=True)
class Example:
    """A block of code under its heading."""

    heading: str
    language: str
    code: str


def examples() -> list[Example]:
    found = []
    heading = ""
    for match in re.finditer(r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL):
        heading = match[1] or heading
        if match[2]:
            found.append(Example(heading, match[2], match[3]))
    return found


# What is true after an example of JavaScript, by its heading; the example's own names are known here.
AFTERWARDS = {
    "Start": """
        const other = globalThis.client;
        await other.join("lobby");
        await other.room("lobby", "for you");
        const isIt = ([name, room, from, data]) => name === "show" && room === "lobby" && data === "for you";
        await until(() => calls.some(isIt));
        await until(() => calls.some(([name, state]) => name === "showState" && state === "open"));
        return client.rooms.join();""",
    "Commands": """
        const before = calls.map(([name, , code]) => [name, code]);
        client.close();
        await say("Hello again");
        return JSON.stringify([before, calls.at(-1)]);""",
    "The queue": "return client.rooms.join();",
    "Events": "return client.id;",
    "Who the client is": """
        client.on("welcome", happened);
        await until(() => client.state === "open");
        return client.user;""",
    "A list of members": "await until(() => members.has(client.id)); return client.rooms.join();",
}
RESULTS = {
    "Start": "lobby",
    "Commands": '[[["showUnsure","not_joined"]],["showUnsent","Hello again","closed"]]',
    "The queue": "lobby",
    "Who the client is": USER,
    "A list of members": "lobby",
}


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with Cluster(redis_server.url, nodes=1) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, cluster: Cluster) -> Iterator[ChromiumPage]:
    with page_of(browser, cluster.nodes[0].http_url) as opened:
        opened.run(AROUND)
        yield opened


def example(heading: str) -> str:
    """The JavaScript under a heading."""
    return next(each.code for each in examples() if (each.heading, each.language) == (heading, "js"))


def test_every_example_is_tried() -> None:
    """There is no example in JavaScript that no test below knows."""
    assert {each.heading for each in examples() if each.language == "js"} == {
        *AFTERWARDS,
        "Node.js",
        "Reconnecting",
    }
    assert [each.heading for each in examples() if each.language == "html"] == [
        "Load it",
        "Load it",
        "One connection for all tabs",
    ]


@pytest.mark.parametrize("heading", RESULTS)
def test_examples_run(heading: str, page: ChromiumPage) -> None:
    """Each does on a page, on a real node, what the text around it says."""
    page.page.route("**/token/", lambda route: route.fulfill(body=issue_token(USER)))
    assert page.run(f"{example(heading)}\n{AFTERWARDS[heading]}") == RESULTS[heading]


def test_the_example_of_missed_runs(page: ChromiumPage, cluster: Cluster) -> None:
    """A client that was away loads each of its rooms again."""
    page.run("await client.join('lobby'); await client.join('other')")
    connection = page.run(f"{example('Events')}\n{AFTERWARDS['Events']}")
    cluster.manage("disconnect", connection, "--code", "1012")
    page.run("await until(() => calls.length === 2)")
    assert page.run("return calls") == [["reloadFromServer", "lobby"], ["reloadFromServer", "other"]]


def test_the_examples_of_waiting_are_right(page: ChromiumPage) -> None:
    """The comment behind each call is what it returns."""
    lines = re.findall(r"^(.+?); // (\d+):", example("Reconnecting"), re.MULTILINE)
    assert len(lines) == 2
    for call, seconds in lines:
        assert page.run(f"return {call}") == int(seconds)


def test_the_example_for_node_js_runs(cluster: Cluster) -> None:
    """The program works as it is written, but for its address and the path of the module."""
    node, directory = node_with(TOOLS)
    program = example("Node.js").replace("./realtime/static/realtime", str(SCRIPTS))
    program = program.replace("wss://example.com/ws/", cluster.nodes[0].url)
    done = subprocess.run(
        [node, "--input-type=module", "-e", program], cwd=directory, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"in lobby on n1-\w+\n", done.stdout), done.stdout


@pytest.mark.parametrize("number", range(3))
def test_pages_load_it(number: int, browser: Browser, cluster: Cluster) -> None:
    """A template with the lines of the page has the client: as a script, as a module, and shared."""
    html = [each.code for each in examples() if each.language == "html"][number]
    html = re.sub(r"{% static '(.+?)' %}", r"/static/\1", html.replace("{% load static %}\n", ""))
    assert "{%" not in html
    url = cluster.nodes[0].http_url

    def serve(route: Route) -> None:
        route.fulfill(body=f"<!doctype html><title>Example</title>{html}", content_type="text/html")

    with browser.new_context() as context:
        page = context.new_page()
        problems: list[Any] = []
        page.on("pageerror", lambda error: problems.append(error))
        page.route(f"{url}/example/", serve)
        page.goto(f"{url}/example/")
        page.wait_for_function("typeof RealtimeClient === 'function'")
        if "shared.js" in html:
            page.wait_for_function("client.state === 'open'")
        assert problems == []


def test_the_tables_name_what_there_is() -> None:
    """The tables of states and events have a row for each of them, in the order of the declarations."""
    node, directory = node_with(TOOLS)
    done = subprocess.run(
        [node, "members.cjs", str(SCRIPTS / "client.d.ts")], cwd=directory, capture_output=True, text=True, timeout=60
    )
    declared = json.loads(done.stdout)
    assert first_column("States", "| `client.state` |") == declared["states"]
    assert first_column("Events", "| event |") == declared["events"]


def first_column(heading: str, head: str) -> list[str]:
    """The names in a table of a section, by the beginning of its head."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section.partition(head)[2].partition("\n\n")[0], re.MULTILINE)


def test_the_table_of_errors_is_complete() -> None:
    """Every code that client.js makes itself, and that no server sends, has a row."""
    own = set(re.findall(r'new RealtimeError\("(\w+)"', (SCRIPTS / "client.js").read_text()))
    of_servers = {"too_large", "too_many_rooms", "rate_limited", "unauthorized"}  # found out here, or by them
    assert set(first_column("Commands", "| `code` | means |")) == own - of_servers
