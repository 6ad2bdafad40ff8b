"""The admin's pages in a real browser: they live without reloading, on a phone as well, light and dark."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

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


@pytest.fixture
def page(browser: Browser, cluster: Cluster) -> Iterator[Page]:
    """Alice's browser. A script that fails, fails the test."""
    page = browser.new_page(viewport=DESK)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    log_in(page, cluster)
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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(browser: Browser, cluster: Cluster, scheme: str) -> None:
    """At 390 px every page is as wide as the screen; wide tables scroll by themselves; dark is dark."""
    page = browser.new_page(viewport=PHONE, color_scheme="light" if scheme == "light" else "dark")
    log_in(page, cluster)
    with Peer(cluster.nodes[1].port) as peer:
        peer.do("join", room="lobby")
        for path in PATHS:
            page.goto(admin(cluster, path))
            assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            lightness = sum(int(part) for part in background.removeprefix("rgb(").rstrip(")").split(","))
            assert (lightness > 384) is (scheme == "light"), (path, background)
    page.close()
