"""The admin's pages in a real browser: they live without reloading, on a phone as well, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, StorageState, ViewportSize, expect

from tests.acceptance.admin.conftest import PASSWORD, QUICK, add_people
from tests.acceptance.engine.peer import Peer
from tests.support.browser import chromium
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

PATHS = [
    "monitoring/cluster/",
    "monitoring/room/",
    "monitoring/room/room/?name=lobby",
    "monitoring/broadcast/",
    "realtime/connection/",
    "realtime/node/",
]
PHONE = ViewportSize(width=390, height=844)
DESK = ViewportSize(width=1280, height=900)


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes, and samples for the charts as soon as they run."""
    with Cluster(redis_server.url, nodes=2, environment=QUICK) as cluster:
        add_people(cluster)
        yield cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def log_in(page: Page, cluster: Cluster, name: str = "alice") -> None:
    page.goto(f"{cluster.nodes[0].http_url}/admin/login/")
    page.fill("#id_username", name)
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")


@pytest.fixture(scope="module")
def logged_in(browser: Browser, cluster: Cluster) -> StorageState:
    """The cookies of alice, who logs in once."""
    page = browser.new_page()
    log_in(page, cluster)
    expect(page.locator("#user-tools")).to_be_visible()
    cookies = page.context.storage_state()
    page.close()
    return cookies


@pytest.fixture
def page(browser: Browser, logged_in: StorageState) -> Iterator[Page]:
    """Alice's browser. A script that fails, fails the test."""
    page = browser.new_page(viewport=DESK, storage_state=logged_in)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert problems == []


def admin(cluster: Cluster, path: str) -> str:
    return f"{cluster.nodes[0].http_url}/admin/{path}"


def test_the_cluster_lives_without_reloading(page: Page, cluster: Cluster) -> None:
    """A client that comes is seen in the totals of the open page, and charts are drawn for an hour and for a day."""
    page.goto(admin(cluster, "monitoring/cluster/"))
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")
    first = page.locator(".rt-card b").first
    expect(first).to_have_text("0")
    expect(page.locator(".rt-nodes tbody tr")).to_have_count(2)
    expect(page.locator(".rt-health [data-healthy=yes].rt-check")).to_have_count(12)
    with Peer(cluster.nodes[1].port):
        expect(first).to_have_text("1")
    expect(first).to_have_text("0")
    charts = page.locator("#rt-charts")
    expect(charts).to_have_attribute("data-drawn", "hour")
    expect(charts.locator("canvas")).to_have_count(4)
    page.click("[data-span=day]")
    expect(charts).to_have_attribute("data-drawn", "day")


def test_without_websockets_the_page_asks(page: Page, cluster: Cluster) -> None:
    """Where no WebSocket gets through, it is up to date a few seconds later all the same."""
    page.route_web_socket("**/admin/feed/**", lambda socket: socket.close())
    page.goto(admin(cluster, "monitoring/cluster/"))
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "asking")
    with Peer(cluster.nodes[1].port):
        expect(page.locator(".rt-card b").first).to_have_text("1")


def test_rooms_come_and_go(page: Page, cluster: Cluster) -> None:
    """The list of rooms follows the cluster, and links to a room's members."""
    page.goto(admin(cluster, "monitoring/room/"))
    expect(page.locator(".rt-rooms")).to_contain_text("No room has a member")
    with Peer(cluster.nodes[1].port) as peer:
        peer.do("join", room="Straße & Söhne")
        page.get_by_role("link", name="Straße & Söhne").click()
        expect(page.locator("h1")).to_have_text("Straße & Söhne")
        expect(page.locator(".rt-scroll tbody")).to_contain_text(peer.id)


def test_disconnecting_by_hand(page: Page, cluster: Cluster) -> None:
    """From the list through the question to the message that it was done."""
    with Peer(cluster.nodes[1].port) as peer:
        found = page.locator("#result_list tbody tr", has_text=peer.id)
        page.goto(admin(cluster, f"realtime/connection/?q={peer.id}"))
        while found.count() == 0:
            page.reload()
        found.locator("input[type=checkbox]").check()
        page.select_option("select[name=action]", "disconnect")
        page.click("button[name=index]")
        expect(page.locator("#count")).to_have_text("1")
        page.click("input[type=submit]")
        expect(page.locator(".messagelist")).to_contain_text("1 connection closed.")
        assert peer.closed() == (1008, "Disconnected by an operator")


def pages_of_rows(page: Page, cluster: Cluster) -> list[str]:
    """A connection's page and a node's, once there are their rows."""
    rows = []
    for model in ("connection", "node"):
        page.goto(admin(cluster, f"realtime/{model}/"))
        first = page.locator("#result_list tbody th a")
        while first.count() == 0:
            page.reload()
        rows.append(str(first.first.get_attribute("href")).removeprefix("/admin/"))
    return rows


def test_a_private_message_by_hand(page: Page, cluster: Cluster) -> None:
    """From a connection's own page, whose buttons stand above its figures."""
    with Peer(cluster.nodes[1].port) as peer:
        page.goto(admin(cluster, f"realtime/connection/?q={peer.id}"))
        while page.locator("#result_list tbody tr").count() == 0:
            page.reload()
        page.get_by_role("link", name=peer.id).click()
        page.get_by_role("button", name="Send a private message").click()
        page.fill("#id_message", "hear this")
        page.get_by_role("button", name="Send a private message").click()
        expect(page.locator(".messagelist")).to_contain_text("1 connection told.")
        assert peer.expect("private") == {"type": "private", "from": None, "data": "hear this"}


def test_a_room_by_hand(page: Page, cluster: Cluster) -> None:
    """A message to its members, after a look at it; then one of them is taken out."""
    with Peer(cluster.nodes[1].port) as peer:
        peer.do("join", room="by hand")
        page.goto(admin(cluster, "monitoring/room/room/?name=by+hand"))
        page.fill("#id_message", '{"a": 1}')
        page.get_by_role("button", name="Look at it first").click()
        expect(page.locator(".rt-confirm")).to_contain_text("This goes to 1 member")
        page.get_by_role("button", name="Send it").click()
        expect(page.locator(".messagelist")).to_contain_text("published to the room")
        assert peer.expect("room") == {"type": "room", "room": "by hand", "from": None, "data": {"a": 1}}
        page.get_by_role("button", name="Take out…").click()
        page.get_by_role("button", name="Take it out").click()
        expect(page.locator(".messagelist")).to_contain_text("1 member was taken out.")
        assert peer.expect("left") == {"type": "left", "room": "by hand"}


def test_a_broadcast_by_hand(page: Page, cluster: Cluster) -> None:
    """The number of those who will get it is named before it is sent."""
    with Peer(cluster.nodes[1].port) as peer:
        page.goto(admin(cluster, "monitoring/broadcast/"))
        page.fill("#id_message", "to all")
        page.get_by_role("button", name="Look at it first").click()
        expect(page.locator("#count")).to_have_text("1")
        page.get_by_role("button", name="Send it to everybody").click()
        expect(page.locator(".messagelist")).to_contain_text("published to everybody")
        assert peer.expect("broadcast") == {"type": "broadcast", "from": None, "data": "to all"}


def test_a_living_table_stays_where_it_was_scrolled(page: Page, cluster: Cluster) -> None:
    """And the link that has the focus keeps it, though the table is another one after each change."""
    page.set_viewport_size(PHONE)
    page.goto(admin(cluster, "monitoring/cluster/"))
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")
    table = page.locator(".rt-scroll").first
    table.evaluate("(table) => { table.scrollLeft = 120; table.dataset.old = 'yes'; }")
    link = page.locator(".rt-nodes a").first
    link.evaluate("(link) => link.focus({ preventScroll: true })")
    expect(page.locator(".rt-scroll[data-old]")).to_have_count(0)
    assert table.evaluate("(table) => table.scrollLeft") == 120
    expect(link).to_be_focused()


def test_selected_text_is_not_taken_away(page: Page, cluster: Cluster) -> None:
    """Whoever copies the id of a node sees that the page waits; then it goes on."""
    page.goto(admin(cluster, "monitoring/cluster/"))
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")
    page.locator(".rt-nodes th a").first.select_text()
    expect(page.locator("#rt-live")).to_contain_text("Held")
    assert page.evaluate("String(getSelection())").startswith("n1-")
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")


def test_an_open_page_says_that_its_user_is_logged_out(browser: Browser, cluster: Cluster) -> None:
    """At once, on another node; it asks no more."""
    context = browser.new_context()
    page = context.new_page()
    log_in(page, cluster)
    page.goto(admin(cluster, "monitoring/cluster/"))
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")
    other = context.new_page()
    other.goto(f"{cluster.nodes[1].http_url}/admin/")
    other.click("#logout-form button")
    expect(page.locator("#rt-live")).to_contain_text("you are logged out")
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(
    browser: Browser, cluster: Cluster, logged_in: StorageState, scheme: str
) -> None:
    """At 390 px every page is as wide as the screen; wide tables scroll by themselves; dark is dark."""
    page = browser.new_page(
        viewport=PHONE, color_scheme="light" if scheme == "light" else "dark", storage_state=logged_in
    )
    with Peer(cluster.nodes[1].port) as peer:
        peer.do("join", room="lobby")
        for path in [*PATHS, *pages_of_rows(page, cluster)]:
            page.goto(admin(cluster, path))
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            lightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
            assert (lightness > 384) is (scheme == "light"), (path, background)
    page.close()


def test_a_node_is_marked_dead_and_drained_by_hand(page: Page, cluster: Cluster) -> None:
    """One that lives comes back by itself; drained it ends. The last test, for the node is gone then."""
    doomed = cluster.nodes[1]

    def act(action: str) -> None:
        page.goto(admin(cluster, f"realtime/node/?q=127.0.0.1:{doomed.port}"))
        page.locator("#result_list tbody input[type=checkbox]").check()
        page.select_option("select[name=action]", action)
        page.click("button[name=index]")
        expect(page.locator("#count")).to_have_text("1")
        page.click(".submit-row input[type=submit]")

    act("mark_dead")
    expect(page.locator(".messagelist")).to_contain_text("1 node marked dead.")
    while "Dead" in page.locator("#result_list .field-state").inner_text():
        page.reload()
    act("drain")
    expect(page.locator(".messagelist")).to_contain_text("1 node draining.")
    assert doomed.wait(30) == 0
