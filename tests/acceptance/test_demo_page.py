"""The demo page in Chromium, on real nodes behind nginx."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.browser import chromium
from tests.support.cluster import Cluster, DaphneNode

RECONNECT_MS = 20_000
CONTENT_SECURITY_POLICY = "default-src 'self'; connect-src 'self' ws://127.0.0.1:*; frame-ancestors 'none'"
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


class Person:
    """Somebody with the demo page open in a browser of their own."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)

    def enter(self, name: str, room: str, query: str = "") -> Person:
        """Open the page by a link to the room, and give a name."""
        self.page.goto(f"{self.url}/{query}#{room}")
        expect(self.see("room-input")).to_have_value(room)
        self.see("name-input").fill(name)
        self.see("enter-button").click()
        expect(self.member(name)).to_be_attached()  # on a phone it is in the drawer
        return self

    def see(self, testid: str) -> Locator:
        return self.page.get_by_test_id(testid)

    def member(self, name: str) -> Locator:
        return self.see("member").filter(has_text=name)

    def message(self, text: str, kind: str = "room") -> Locator:
        return self.page.locator(f'[data-testid="message"][data-kind="{kind}"]').filter(has_text=text)

    def say(self, text: str, kind: str = "room", to: str = "") -> None:
        """Write a message and see it acknowledged."""
        self.see(f"target-{kind}").check(force=True)
        if to:
            self.see("private-to").select_option(label=to)
        self.see("composer-text").fill(text)
        self.see("composer-text").press("Enter")
        expect(self.message(text, kind).locator('[data-state="sent"]')).to_be_attached()

    @property
    def node(self) -> str:
        """The node that serves this page, as the page shows it."""
        expect(self.see("status")).to_have_attribute("data-state", "open")
        return self.see("node").inner_text()


Invite = Callable[..., Person]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def invite(browser: Browser) -> Iterator[Invite]:
    """Opens a browser context for one more person: `invite(cluster, color_scheme="dark")`."""
    people: list[Person] = []

    def open_page(cluster: Cluster, **context: Any) -> Person:
        assert cluster.nginx is not None
        people.append(Person(browser.new_context(**context).new_page(), cluster.nginx.http_url))
        return people[-1]

    yield open_page
    for person in people:
        person.page.context.close()


def node_of(cluster: Cluster, person: Person) -> DaphneNode:
    return next(node for node in cluster.nodes if person.node.startswith(node.name))


def two_on_different_nodes(invite: Invite, cluster: Cluster, room: str) -> tuple[Person, Person]:
    """Ada and Grace in one room; nginx decides which node serves whom, so Grace tries until it is another one."""
    ada = invite(cluster).enter("Ada", room)
    for _ in range(20):
        grace = invite(cluster).enter("Grace", room)
        if node_of(cluster, grace) is not node_of(cluster, ada):
            return ada, grace
        grace.page.context.close()
    raise AssertionError("nginx sent twenty pages to the same node")


def test_pages_on_two_nodes_chat_and_outlive_the_death_of_one(cluster: Cluster, invite: Invite) -> None:
    """Two pages on two nodes chat; one node is killed; its page says so, comes back on another node and chats on."""
    ada, grace = two_on_different_nodes(invite, cluster, "lobby")
    ada.say("from Ada")
    expect(grace.message("from Ada")).to_be_visible()
    grace.say("from Grace")
    expect(ada.message("from Grace")).to_be_visible()

    killed = node_of(cluster, ada)
    killed.kill()

    expect(ada.see("lost")).to_be_visible(timeout=RECONNECT_MS)
    expect(ada.see("back")).to_be_visible(timeout=RECONNECT_MS)
    expect(ada.see("missed")).to_have_text("You may have missed messages while you were away.")
    assert node_of(cluster, ada) is not killed
    ada.say("Ada again")
    expect(grace.message("Ada again")).to_be_visible()
    grace.say("welcome back")
    expect(ada.message("welcome back")).to_be_visible()
    expect(ada.message("from Ada")).to_be_visible()
    expect(grace.see("lost")).to_have_count(0)


def test_a_page_over_socketio_talks_with_a_plain_one(module_cluster: Cluster, invite: Invite) -> None:
    """Room, broadcast and private messages both ways, in one list of members; the switch leads there and back."""
    ada = invite(module_cluster).enter("Ada", "both")
    grace = invite(module_cluster).enter("Grace", "both")
    grace.see("via").select_option("socketio")
    grace.page.wait_for_url("**/?via=socketio#both")
    grace.enter("Grace", "both", "?via=socketio")
    expect(ada.see("member")).to_have_text([re.compile("Ada.*you"), re.compile("Grace")])
    expect(grace.see("member")).to_have_text([re.compile("Grace.*you"), re.compile("Ada")])
    for kind in ("room", "broadcast", "private"):
        ada.say(f"{kind} from Ada", kind, to="Grace" if kind == "private" else "")
        expect(grace.message(f"{kind} from Ada", kind)).to_be_visible()
        grace.say(f"{kind} from Grace", kind, to="Ada" if kind == "private" else "")
        expect(ada.message(f"{kind} from Grace", kind)).to_be_visible()
    assert "joined" not in "".join(ada.page.get_by_test_id("message").all_inner_texts())
    grace.see("via").select_option("websocket")
    grace.page.wait_for_url("**/#both")
    assert grace.problems == ada.problems == []


def test_members_come_and_go(module_cluster: Cluster, invite: Invite) -> None:
    """Each page lists who is in the room, under the names they chose, and tells of those who come and go."""
    ada, grace = two_on_different_nodes(invite, module_cluster, "comings")
    expect(ada.see("member")).to_have_text([re.compile("Ada.*you"), re.compile("Grace")])
    expect(grace.see("member")).to_have_text([re.compile("Grace.*you"), re.compile("Ada")])
    expect(ada.see("nodes").locator("li")).to_have_count(2)
    expect(ada.see("member-joined").last).to_have_text("Grace joined")

    grace.page.context.close()
    expect(ada.see("member-left").last).to_have_text("Grace left")
    expect(ada.see("member-count")).to_have_text("1")


def test_a_broadcast_reaches_other_rooms_and_a_room_message_does_not(module_cluster: Cluster, invite: Invite) -> None:
    """A broadcast is seen in every room, marked as such; a message to a room stays there."""
    ada = invite(module_cluster).enter("Ada", "here")
    grace = invite(module_cluster).enter("Grace", "elsewhere")
    ada.say("only here")
    ada.say("to everyone", "broadcast")
    expect(grace.message("to everyone", "broadcast")).to_contain_text("Everyone")
    expect(grace.see("message")).to_have_count(1)


def test_a_private_message_is_seen_by_its_recipient_alone(module_cluster: Cluster, invite: Invite) -> None:
    """A private message reaches the page that was chosen, and nobody else in the room."""
    ada, grace = two_on_different_nodes(invite, module_cluster, "secrets")
    eve = invite(module_cluster).enter("Eve", "secrets")
    expect(ada.member("Eve")).to_be_visible()
    ada.say("for Grace only", "private", to="Grace")
    expect(grace.message("for Grace only", "private")).to_be_visible()
    ada.say("for all of us")
    expect(eve.message("for all of us")).to_be_visible()
    expect(eve.see("message")).to_have_count(1)


def test_what_people_write_is_never_html(module_cluster: Cluster, invite: Invite) -> None:
    """Names and messages with tags appear as they were typed."""
    ada = invite(module_cluster).enter("<u>Ada</u>", "tags")
    grace = invite(module_cluster).enter("Grace", "tags")
    expect(grace.member("<u>Ada</u>")).to_be_visible()
    ada.say("<img src=x onerror=alert(1)> <b>bold</b>")
    expect(grace.message("<img src=x onerror=alert(1)> <b>bold</b>")).to_be_visible()
    assert grace.page.locator("u, .stream img, .stream b:not([data-name-of])").count() == 0


def test_what_other_programs_publish_is_shown(module_cluster: Cluster, invite: Invite) -> None:
    """JSON that does not come from a demo page is shown as it is."""
    ada = invite(module_cluster).enter("Ada", "machines")
    grace = invite(module_cluster).enter("Grace", "machines")
    grace.page.evaluate(
        """() => new Promise((done) => {
          const other = new RealtimeClient("/ws/");
          other.on("welcome", () => other.broadcast({ order: 4711 }).then(done));
        })"""
    )
    expect(ada.message('"order": 4711', "broadcast")).to_be_visible()


def test_name_and_room_can_be_changed(module_cluster: Cluster, invite: Invite) -> None:
    """A new name is seen by the others at once; in a new room the old one is not heard, and the address names it."""
    ada = invite(module_cluster).enter("Ada", "first")
    grace = invite(module_cluster).enter("Grace", "first")
    expect(grace.member("Ada")).to_be_visible()
    ada.see("room-name").click()
    ada.see("name-input").fill("Countess")
    ada.see("enter-button").click()
    expect(grace.member("Countess")).to_be_visible()

    ada.see("room-name").click()
    ada.see("room-input").fill("second room")
    ada.see("enter-button").click()
    expect(grace.see("member-left")).to_have_text("Countess left")
    expect(ada.member("Countess")).to_be_visible()
    assert ada.page.url.endswith("/#second%20room")
    grace.say("still in the first")
    grace.say("to everyone", "broadcast")
    expect(ada.message("to everyone", "broadcast")).to_be_visible()
    expect(ada.see("message")).to_have_count(1)


def test_a_bad_room_is_explained(module_cluster: Cluster, invite: Invite) -> None:
    """The form names what is wrong with a name or a room, and does not go away."""
    ada = invite(module_cluster)
    ada.page.goto(ada.url)
    ada.see("name-input").fill(" ")
    ada.see("room-input").fill("r" * 65)
    ada.see("enter-button").click()
    expect(ada.see("entry-form")).to_contain_text("Choose a name")
    expect(ada.see("entry-form")).to_contain_text("at most 64 characters")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_a_phone_needs_no_sideways_scrolling(module_cluster: Cluster, invite: Invite, color_scheme: str) -> None:
    """On 390 pixels nothing is cut off or scrolls sideways, and the members are one tap away."""
    ada = invite(module_cluster, color_scheme=color_scheme, **PHONE)
    ada.enter("Wolfeschlegelsteinhausenbergerdo", "long-room-name-" * 4)
    ada.say("incomprehensibilities" * 20)
    widths = "[document.documentElement.scrollWidth, document.getElementById('scroll').scrollWidth]"
    assert all(width <= 390 for width in ada.page.evaluate(widths))
    expect(ada.see("members")).to_be_hidden()
    ada.see("people-toggle").click()
    expect(ada.see("members")).to_be_visible()
    ada.page.keyboard.press("Escape")
    expect(ada.see("members")).to_be_hidden()
    expect(ada.see("people-toggle")).to_be_focused()


def test_it_works_under_a_strict_content_security_policy(module_cluster: Cluster, invite: Invite) -> None:
    """The page has no inline script or style and loads nothing from elsewhere."""
    # To Chromium a page that was changed on its way does not come from the loopback that it then connects to.
    ada = invite(module_cluster, permissions=["local-network-access"])
    elsewhere: list[str] = []

    def add_policy(route: Route) -> None:
        if not route.request.url.startswith(ada.url):
            elsewhere.append(route.request.url)
        response = route.fetch()
        route.fulfill(
            response=response, headers={**response.headers, "content-security-policy": CONTENT_SECURITY_POLICY}
        )

    ada.page.route("**/*", add_policy)
    ada.enter("Ada", "strict")
    ada.say("no complaints")
    expect(ada.see("backplane")).to_have_text("Redis")
    assert ada.problems == []
    assert elsewhere == []
