"""docs/your-project.md, from nothing to two browsers that chat through two nodes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.acceptance.your_project.document import Walk, blocks
from tests.support.browser import chromium
from tests.support.processes import CHECKOUT

PASSWORD = "correct-horse-battery"
SECONDS = 30.0


@pytest.fixture(scope="module")
def walk(installed: Walk) -> Walk:
    """A walk with both nodes running."""
    installed.follow("Start the project", "Publish when it is saved", "Show it", "Run it")
    return installed


@pytest.fixture(scope="module")
def pages(walk: Walk) -> Iterator[dict[str, Page]]:
    """The page on each node, in two browsers: alice's on daphne, bob's on uvicorn."""
    with chromium() as browser:
        found = {}
        for name, port in (("alice", walk.ports["8001"]), ("bob", walk.ports["8002"])):
            page = browser.new_context(viewport={"width": 640, "height": 400}).new_page()
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_label("Username").fill(name)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Log in").click()
            expect(page.get_by_role("status")).to_contain_text("On node ")
            found[name] = page
        yield found


def test_every_block_is_done() -> None:
    """The document has no block that is neither run nor written to a file."""
    for block in blocks():
        assert block.kind in ("sh", "sh server", "python", "html"), block
        assert bool(block.path) == (not block.kind.startswith("sh")), block


def test_the_wheel_is_used(walk: Walk) -> None:
    """What runs is the installed wheel; the checkout is not on the path."""
    code = "import realtime, monitoring, sys; print(realtime.__file__, monitoring.__file__, sys.path, sep='\\n')"
    *packages, path = walk.call("-c", code).stdout.splitlines()
    for package in packages:
        assert package.startswith(str(walk.project / ".venv" / "lib"))
    assert str(CHECKOUT) not in path
    assert str(walk.clone) not in path


def test_nothing_is_complained_of(walk: Walk) -> None:
    """`pip check` and `manage.py check` find nothing."""
    said = "\n".join(walk.said)
    assert "No broken requirements found." in said
    assert "System check identified no issues (0 silenced)." in said


def test_two_browsers_chat_through_two_nodes(walk: Walk, pages: dict[str, Page], tmp_path: Path) -> None:
    """What alice writes on one node bob reads on the other, and the other way round; so does who comes later."""
    write(pages["alice"], "Does this come through?")
    expect(pages["bob"].get_by_role("listitem")).to_have_text(["alice: Does this come through?"])
    write(pages["bob"], "It does.")
    both = ["alice: Does this come through?", "bob: It does."]
    for page in pages.values():
        expect(page.get_by_role("listitem")).to_have_text(both)
    expect(pages["alice"].get_by_role("status")).to_contain_text("On node one-")
    expect(pages["bob"].get_by_role("status")).to_contain_text("On node two-")
    for name, page in pages.items():
        page.screenshot(path=tmp_path / f"{name}.png")
    pages["bob"].reload()
    expect(pages["bob"].get_by_role("listitem")).to_have_text(both)


def test_the_shell_joins_in(walk: Walk, pages: dict[str, Page]) -> None:
    """`manage.py publish` reaches both pages, and `connections` lists them with their users."""
    note = {"id": "later", "author": "cron", "text": "Tea is ready"}
    assert walk.call("manage.py", "publish", "room", "board", json.dumps(note)).returncode == 0
    for page in pages.values():
        expect(page.get_by_role("list")).to_contain_text("cron: Tea is ready")
    listed = json.loads(walk.call("manage.py", "connections", "--json", "--within", "10").stdout)
    assert sorted(each["user"] for each in listed["connections"]) == ["1", "2"]
    assert len({each["node"] for each in listed["connections"]}) == 2


def test_permissions(walk: Walk, pages: dict[str, Page]) -> None:
    """With the class of the document a page may not publish past the view, anonymous clients may not join the room, and
    users go on reading what the view publishes."""
    walk.follow("Who may do what")
    walk.restart_servers()
    publish = "client.room('board', {id: 'forged'}).then(() => 'taken', (error) => error.code)"
    for name, page in pages.items():
        page.reload()
        expect(page.get_by_role("status")).to_contain_text("On node ")
        page.evaluate("client.join('board')")
        assert page.evaluate(publish) == "forbidden"
        write(page, f"{name} again")
    for page in pages.values():
        for text in ("alice: alice again", "bob: bob again"):
            expect(page.get_by_role("list")).to_contain_text(text)
    with connect(f"ws://127.0.0.1:{walk.servers[0].port}/ws/") as client:
        client.recv(SECONDS)
        client.send('{"type":"join","room":"board"}')
        assert json.loads(client.recv(SECONDS))["code"] == "forbidden"


def write(page: Page, text: str) -> None:
    page.get_by_label("Your note").fill(text)
    page.get_by_role("button", name="Write").click()


def test_own_consumers(walk: Walk) -> None:
    """A consumer of the project keeps its route and its group over both nodes, beside /ws/; other paths are 404."""
    walk.follow("Consumers of your own")
    walk.restart_servers()
    addresses = [f"ws://127.0.0.1:{server.port}" for server in walk.servers]
    with connect(f"{addresses[0]}/echo/") as one, connect(f"{addresses[1]}/echo/") as two:
        one.send("hello")
        assert [each.recv(SECONDS) for each in (one, two)] == ["hello", "hello"]
    for address in addresses:
        with connect(f"{address}/ws/") as client:
            assert json.loads(client.recv(SECONDS))["type"] == "welcome"
        with pytest.raises(InvalidStatus) as refused:
            connect(f"{address}/nowhere/")
        assert refused.value.response.status_code == 404


def test_a_prefix_for_paths(walk: Walk, pages: dict[str, Page]) -> None:
    """With PATH_PREFIX nodes serve /live/ws/ and no longer /ws/; the admin's page of the cluster is kept up to date all
    the same."""
    with (walk.project / "mysite" / "settings.py").open("a") as settings:
        settings.write('REALTIME["PATH_PREFIX"] = "/live"\n')
    walk.restart_servers()
    for server in walk.servers:
        with connect(f"ws://127.0.0.1:{server.port}/live/ws/") as client:
            assert json.loads(client.recv(SECONDS))["type"] == "welcome"
        with pytest.raises(InvalidStatus):
            connect(f"ws://127.0.0.1:{server.port}/ws/")
    for name, page in pages.items():
        page.goto(f"http://127.0.0.1:{walk.servers[name == 'bob'].port}/admin/monitoring/cluster/")
        expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")


def test_production(walk: Walk) -> None:
    """The settings for production pass `check --deploy` without an error; client.js is among the collected files."""
    walk.follow("In production")
    assert (walk.project / "static" / "realtime" / "client.js").is_file()
    assert "System check identified" in walk.said[-1]
    assert "ERRORS" not in walk.said[-1]


def test_the_servers_end_well(walk: Walk) -> None:
    """Both nodes drain on SIGTERM, and nothing surprised them."""
    time_out = time.monotonic() + 60
    for server in walk.servers:
        server.terminate()
    for server in walk.servers:
        server.wait(max(time_out - time.monotonic(), 1))
        assert "Traceback" not in server.log, server.log[-4000:]
        assert "check_failed" not in server.log
