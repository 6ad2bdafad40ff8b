"""shared.js in Chromium, on a real node: several tabs of one browser with one connection."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.acceptance.nodes import get
from tests.support.browser import EXPECT_MS, chromium
from tests.support.cluster import Cluster, DaphneNode
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer

OpenTab = Callable[[], "Tab"]

# A page without a client of its own, on the node's origin.
PAGE = "/health/live"
START = """
async (options) => {
  globalThis.client = RealtimeClient.shared("/ws/", options);
  globalThis.seen = [];
  const pushes = ["joined", "left", "broadcast", "room", "private", "members", "missed"];
  for (const event of ["state", "welcome", ...pushes, "error"]) {
    client.on(event, (detail) => seen.push([event, detail]));
  }
}
"""


class Tab:
    """A page with a shared client."""

    def __init__(self, page: Page, node: DaphneNode, options: dict[str, Any]) -> None:
        self.page = page
        page.set_default_timeout(EXPECT_MS)
        page.goto(f"{node.http_url}{PAGE}")
        for script in ("client.js", "shared.js"):
            page.add_script_tag(url=f"/static/realtime/{script}")
        page.evaluate(START, options)

    def run(self, body: str) -> Any:
        return self.page.evaluate(f"async () => {{ {body} }}")

    def wait(self, condition: str) -> None:
        self.page.wait_for_function(f"() => {condition}")

    def until_open(self) -> Tab:
        self.wait("client.state === 'open'")
        return self

    def heard(self, event: str) -> list[Any]:
        """What came with an event, in order."""
        found: list[Any] = self.run(
            f"return seen.filter(([name]) => name === '{event}').map(([, it]) => it.data ?? it)"
        )
        return found

    def wait_for(self, event: str, data: str) -> None:
        self.wait(f"seen.some(([event, detail]) => event === {event!r} && detail.data === {data!r})")


@pytest.fixture(scope="module")
def node(redis_server: RedisServer) -> Iterator[DaphneNode]:
    with Cluster(redis_server.url, nodes=1) as cluster:
        yield cluster.nodes[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser profile of its own: other tests' tabs share nothing with it."""
    with browser.new_context() as fresh:
        yield fresh


@pytest.fixture
def open_tab(context: BrowserContext, node: DaphneNode) -> Callable[..., Tab]:
    return lambda **options: Tab(context.new_page(), node, options).until_open()


def connections(node: DaphneNode) -> float:
    """How many connections the node has accepted so far."""
    lines = get(f"{node.http_url}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("realtime_connections_opened_total"))


def test_two_tabs_share_one_connection(open_tab: OpenTab, node: DaphneNode) -> None:
    """Two tabs are one connection of the node, with one id, and each gets what comes for the rooms that it is in."""
    before = connections(node)
    one, two = open_tab(), open_tab()
    assert connections(node) - before == 1
    assert one.run("return client.id") == two.run("return client.id")

    one.run("await client.join('both'); await client.join('mine')")
    two.run("await client.join('both')")
    assert (one.run("return client.rooms"), two.run("return client.rooms")) == (["both", "mine"], ["both"])
    other = open_tab_of_another_browser(one, node)
    other.run("await client.join('both'); await client.join('mine')")
    other.run("await client.room('mine', 'for one'); await client.room('both', 'for both')")
    for tab in (one, two):
        tab.wait_for("room", "for both")
    assert one.heard("room") == ["for one", "for both"]
    assert two.heard("room") == ["for both"]


def test_tabs_hear_each_other(open_tab: OpenTab) -> None:
    """What one tab publishes reaches the other one, once, and not itself, unless it asks for its echo."""
    one, two = open_tab(), open_tab()
    for tab in (one, two):
        tab.run("await client.join('r')")
    one.run("await client.room('r', 'a'); await client.broadcast('b'); await client.room('r', 'c', { echo: true })")
    two.run("await client.room('r', 'a'); await client.room('r', 'end', { echo: true })")
    for tab in (one, two):
        tab.wait_for("room", "end")
    assert two.heard("room") == ["a", "c", "end"]
    assert one.heard("room") == ["c", "a", "end"]
    assert (one.heard("broadcast"), two.heard("broadcast")) == ([], ["b"])


@pytest.mark.parametrize("end", ["closed", "crashed"])
def test_a_room_is_left_with_the_last_tab_that_wants_it(context: BrowserContext, open_tab: OpenTab, end: str) -> None:
    """Leaving in one tab leaves the other one in the room; the end of that tab, even without a word, leaves it for
    all."""
    if end == "crashed":
        context.add_init_script("addEventListener('pagehide', (event) => event.stopImmediatePropagation(), true)")
    one, two, watcher = open_tab(), open_tab(), open_tab()
    for tab in (one, two):
        tab.run("await client.join('r')")
    one.run("await client.leave('r')")
    watcher.run("await client.room('r', 'still')")
    two.wait_for("room", "still")
    assert one.heard("room") == []
    two.page.close()
    # The worker learns of it a moment later; from then on a message to the room is refused.
    refusal = watcher.run(
        """
        for (const end = Date.now() + 15_000; Date.now() < end;) {
          const code = await client.room('r', 'gone?').then(() => null, (error) => error.code);
          if (code !== null) return code;
        }
        """
    )
    assert refusal == "not_joined"


def test_a_removed_member_is_out_in_every_tab(open_tab: OpenTab, node: DaphneNode) -> None:
    """Each tab that was in the room is told, and only those."""
    one, two, elsewhere = open_tab(), open_tab(), open_tab()
    for tab in (one, two):
        tab.run("await client.join('staff')")
    elsewhere.run("await client.join('lobby')")
    connection = one.run("return client.id")
    program = [["remove_member", {"room": "staff", "connection": connection, "within": 8}]]
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.operating.asker", json.dumps(program)],
        cwd=CHECKOUT,
        env={"DJANGO_SETTINGS_MODULE": "config.settings", **node.environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout)["answer"]["count"] == 1, done.stderr
    for tab in (one, two):
        tab.wait("seen.some(([event]) => event === 'left')")
        assert tab.heard("left") == [{"room": "staff"}]
        assert tab.run("return client.rooms") == []
    assert elsewhere.run("await client.ping(); return client.rooms") == ["lobby"]
    assert elsewhere.heard("left") == []


def test_the_connection_outlives_the_tab_that_made_it(open_tab: OpenTab, node: DaphneNode) -> None:
    """When the first tab is closed, the second one goes on without a new connection."""
    one, two = open_tab(), open_tab()
    before = connections(node)
    id_before = two.run("return client.id")
    one.page.close()
    two.run("await client.join('r'); await client.ping()")
    assert two.run("return client.id") == id_before
    assert connections(node) == before
    assert two.heard("missed") == []


def test_close_ends_one_tab_only(open_tab: OpenTab) -> None:
    """A closed client fails its calls; the other tab's works, and connect() brings the first one back."""
    one, two = open_tab(), open_tab()
    assert one.run("client.close(); return client.ping().catch(({ code }) => code)") == "closed"
    assert one.run("return client.state") == "closed"
    assert two.run("return await client.ping() >= 0")
    one.run("client.connect()")
    one.until_open()
    assert one.run("return client.id") == two.run("return client.id")


def test_a_page_that_comes_back_is_told(open_tab: OpenTab) -> None:
    """A page that the browser kept hidden has missed what came meanwhile: it joins its rooms again and is told so."""
    one, two = open_tab(), open_tab()
    one.run("await client.join('r')")
    one.run("dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))")
    two.run("await client.join('r'); await client.room('r', 'meanwhile')")
    one.run("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    one.wait("seen.some(([event]) => event === 'missed')")
    two.run("await client.room('r', 'again')")
    one.wait_for("room", "again")
    assert one.heard("room") == ["again"]
    assert one.run("return client.rooms") == ["r"]


def test_all_tabs_are_back_after_the_loss_of_the_node(open_tab: OpenTab, node: DaphneNode) -> None:
    """When the node was killed and is back, each tab is in its own rooms again, and is told that it may have missed
    something."""
    one, two = open_tab(), open_tab()
    one.run("await client.join('both'); await client.join('mine')")
    two.run("await client.join('both', { members: true })")
    node.restart()
    for tab in (one, two):
        tab.wait("seen.some(([event, { cause }]) => event === 'missed' && cause === 'reconnected')")
    for tab, room in ((one, "both"), (one, "mine"), (two, "both")):
        tab.wait(f"seen.some(([event, it]) => event === 'joined' && it.again && it.room === '{room}')")
    assert "mine" not in two.run("return seen.filter(([event]) => event === 'joined').map(([, { room }]) => room)")
    two.run("await client.room('both', 'hello again')")
    one.wait_for("room", "hello again")


def test_a_queue_reaches_the_other_tabs(context: BrowserContext, node: DaphneNode) -> None:
    """What a tab publishes while the node is away comes to the other tabs when it is back, and not to itself."""
    one, two = (Tab(context.new_page(), node, {"queueMax": 10}).until_open() for _ in range(2))
    for tab in (one, two):
        tab.run("await client.join('r')")
    node.kill()
    try:
        one.wait("client.state !== 'open'")
        one.run("globalThis.sent = client.room('r', 'queued')")
    finally:
        node.start()
    one.run("await sent")
    two.run("await client.room('r', 'end', { echo: true })")
    for tab in (one, two):
        tab.wait_for("room", "end")
    assert (one.heard("room"), two.heard("room")) == (["end"], ["queued", "end"])


def test_any_tab_has_the_token(context: BrowserContext, node: DaphneNode) -> None:
    """The worker asks the tabs for the token; one that the server refuses closes the client in all of them."""
    tab = Tab(context.new_page(), node, {"token": "not a token"})
    tab.wait("client.state === 'closed'")
    assert tab.run("return seen.filter(([event]) => event === 'error').map(([, { code }]) => code)") == ["unauthorized"]


def test_without_shared_workers_a_tab_has_a_connection_of_its_own(context: BrowserContext, node: DaphneNode) -> None:
    """Where the browser knows no SharedWorker, shared() gives a plain client."""
    context.add_init_script("delete globalThis.SharedWorker")
    tab = Tab(context.new_page(), node, {}).until_open()
    assert tab.run("return client instanceof RealtimeClient")


def open_tab_of_another_browser(tab: Tab, node: DaphneNode) -> Tab:
    """A tab in another profile of the same browser: with a connection of its own."""
    browser = tab.page.context.browser
    assert browser is not None
    return Tab(browser.new_page(), node, {}).until_open()
