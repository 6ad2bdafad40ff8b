"""What is for operators is not to be had by clients: through both balancers however it is asked for, and at a node that
is reached past them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import Cluster, DaphneNode, NginxProxy
from tests.support.haproxy import HaproxyProxy
from tests.support.raw_http import Answer, request, send
from tests.support.servers import RedisServer

HEALTH_TOKEN = "the token for health of this test"
METRICS_TOKEN = "the token for metrics of this test"
# As strangers meet it.
ENVIRONMENT = {
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": "a secret key of this test, long enough for Django",
    "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1",
    "REALTIME_DEFAULTS": "development",  # the clients of these tests are anonymous
    "REALTIME_HEALTH_TOKEN": HEALTH_TOKEN,
    "REALTIME_METRICS_TOKEN": METRICS_TOKEN,
}
ELSEWHERE = {"X_Forwarded_For": "192.0.2.7"}  # somebody behind a proxy that lets everything through

PAGES = ["/admin/", "/admin", "/admin/login/", "/metrics", "/metrics/", "/health/", "/health/ready", "/health/live"]
SPELLINGS = [
    "/admin;x",
    "/admin/;x",
    "/admin?next=/",
    "/ADMIN/",
    "/Admin/login/",
    "/%61dmin/",
    "/%2561dmin/",
    "/%41DMIN/",
    "//admin/",
    "///admin/login/",
    "/./admin/",
    "/x/../admin/",
    "/static/../admin/",
    "/static/%2e%2e/admin/",
    "/static/..%2fadmin/",
    "/static/..%5cadmin/",
    "/static/..;/admin/",
    "/socket.io/../admin/",
    "/socket.io/../metrics",
    "/ws/../metrics",
    "/ws/..%2fmetrics",
    "/\\admin/",
    "/admin%2flogin/",
    "/admin%00",
    "/admin%20/",
    "/admin%0a/",
    "/admin%09/",
    "/metrics?x=1",
    "/metrics#x",
    "/metrics%3fx",
    "/metrics%0a",
    "/METRICS",
    "/health//",
    "/health%2fready",
    "/health/%72eady",
    "/Health/Ready",
    "/nodes/1/metrics",
    "/nodes/1/admin/",
    "/haproxy",
    "/haproxy;csv",
    "http://localhost/admin/",
    "http://localhost/metrics",
    "HTTP://evil.example/metrics",
    "http://localhost//metrics",
    "http://localhost:80@evil.example/metrics",
    "//localhost/metrics",
    "admin/",
    "*",
]
METHODS = ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "FOO"]
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec_WebSocket_Version": "13",
}
LAST = request("/the-end")  # behind one that leaves the connection open
# Words of the pages that nobody may see. The login page is one of them.
SEEN = re.compile(
    rb"Django administration|csrfmiddlewaretoken|# HELP|# TYPE|\"(live|ready)\"|Statistics Report|/admin/login"
)


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with Cluster(redis_server.url, nodes=1, environment=ENVIRONMENT) as cluster:
        yield cluster
        assert_no_traceback(cluster)


@pytest.fixture(scope="module")
def node(cluster: Cluster) -> DaphneNode:
    return cluster.nodes[0]


@pytest.fixture(scope="module", params=[NginxProxy, HaproxyProxy], ids=["nginx", "haproxy"])
def proxy(
    request: pytest.FixtureRequest, node: DaphneNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NginxProxy | HaproxyProxy]:
    """A balancer as it is delivered, in front of a node of production."""
    directory: Path = tmp_path_factory.mktemp("proxy")
    kind: type[NginxProxy] | type[HaproxyProxy] = request.param
    started = kind([node.port], directory).start()
    yield started
    started.kill()


def assert_kept_back(answer: Answer, what: object) -> None:
    """Refused, or answered with nothing that is for operators."""
    assert answer.status == 0 or answer.status >= 400, (what, answer.raw[:500])
    assert not SEEN.search(answer.raw), (what, answer.raw[:500])


async def test_no_spelling_leads_to_an_operators_page(
    proxy: NginxProxy | HaproxyProxy, node: DaphneNode, connect: Connect
) -> None:
    """Encoded, doubled, with dots, in capitals, as an absolute address, over HTTP/1.0, for other hosts: none of it."""
    for target in [*PAGES, *SPELLINGS]:
        assert_kept_back(send(proxy.public_port, request(target)), target)
    for target in PAGES:
        internal = f"127.0.0.1:{proxy.internal_port}"
        for host in (internal, "127.0.0.1", "evil.example", "localhost:80, evil", "", "a b", None):
            assert_kept_back(send(proxy.public_port, request(target, host=host)), (target, host))
        assert_kept_back(send(proxy.public_port, request(target, version="1.0", host=None)), (target, "1.0"))
        twice = request(target).replace(b"\r\n", b"\r\nHost: evil.example\r\n", 1)
        assert_kept_back(send(proxy.public_port, twice), (target, "two hosts"))
        claims = {"X_Original_URL": target, "X_Rewrite_URL": target, "X_Forwarded_Prefix": target}
        assert not SEEN.search(send(proxy.public_port, request("/nothing", **claims)).raw)
    await assert_still_served(proxy, connect)


async def test_no_method_leads_there_either(proxy: NginxProxy | HaproxyProxy, connect: Connect) -> None:
    """Whatever the method, also one that nobody knows; and nothing is echoed by TRACE."""
    for method in METHODS:
        for target in ("/admin/", "/metrics", "/health/ready", "/health/"):
            assert_kept_back(send(proxy.public_port, request(target, method=method)), (method, target))
    for target in ("/", "/ws/", "/socket.io/", "/static/realtime/client.js"):
        answer = send(proxy.public_port, request(target, method="TRACE", X_Secret="planted"))
        assert answer.status >= 400
        assert b"planted" not in answer.raw
    assert_kept_back(send(proxy.public_port, request("localhost:80", method="CONNECT")), "CONNECT")
    await assert_still_served(proxy, connect)


async def test_a_second_request_is_kept_back_like_the_first(proxy: NginxProxy | HaproxyProxy, connect: Connect) -> None:
    """Not behind another request on the same connection, in its body, nor where the two lengths of one disagree."""
    hidden = request("/metrics")
    kept = {"Connection": "keep-alive"}
    both = request("/", method="POST", Content_Length="5", Transfer_Encoding="chunked", **kept) + b"0\r\n\r\n"
    for first in (
        request("/nothing", **kept),
        request("/nothing", method="POST", Content_Length="0", **kept),
        both,
        both.replace(b"Transfer-Encoding: ", b"Transfer-Encoding : "),
        request("/", method="POST", Content_Length=f"{len(hidden)}", **kept),
        request("/", Content_Length="0\r\nContent-Length: 5", **kept),
        request("/ws/", **UPGRADE).replace(b"13", b"12"),  # refused: it stays HTTP
    ):
        answer = send(proxy.public_port, first + hidden + LAST)
        assert not SEEN.search(answer.raw), (first, answer.raw[:1000])
    await assert_still_served(proxy, connect)


async def test_websockets_and_pages_are_not_mixed_up(proxy: NginxProxy | HaproxyProxy, connect: Connect) -> None:
    """No WebSocket to a page or to the admin's feed, and no page where the WebSockets are."""
    for target in (
        "/",
        "/admin/",
        "/admin/feed/",
        "/admin/feed/?page=cluster",
        "/metrics",
        "/health/ready",
        "/static/",
    ):
        answer = send(proxy.public_port, request(target, **UPGRADE) + LAST)
        assert answer.status in (400, 403, 404), (target, answer.raw[:500])
        assert not SEEN.search(answer.raw)
    for target in ("/ws", "/ws/", "/ws/?page=cluster"):
        assert send(proxy.public_port, request(target)).status in (400, 404, 426), target
        assert send(proxy.public_port, request(target, method="POST", Content_Length="0")).status >= 400, target
    for changed in ({"Sec_WebSocket_Version": "12"}, {"Sec_WebSocket_Key": "short"}, {"Upgrade": "h2c"}):
        assert send(proxy.public_port, request("/ws/", **{**UPGRADE, **changed}) + LAST).status >= 400, changed
    await assert_still_served(proxy, connect)


async def test_operators_get_there(proxy: NginxProxy | HaproxyProxy) -> None:
    """On the internal side all of it is there: what the other tests look for would be seen."""
    for target in ("/admin/login/", "/metrics", "/health/ready", "/health/live"):
        answer = send(proxy.internal_port, request(target))
        assert answer.status == 200, (target, answer.raw[:500])
        assert SEEN.search(answer.raw), target
    assert send(proxy.internal_port, request("/admin/")).status == 302


@pytest.mark.parametrize(("page", "token"), [("metrics", METRICS_TOKEN), ("health", HEALTH_TOKEN)])
def test_a_node_that_is_reached_directly_wants_the_token(node: DaphneNode, page: str, token: str) -> None:
    """With the wrong token or none a stranger gets 403, which is counted, and logged with the reason; with the right
    one the page."""
    target, name = f"/{page}/", "realtime_operator_pages_refused_total"
    before = metric(node, name)
    wrong = ["Bearer wrong", f"Bearer {token}x", f"Bearer {token[:-1]}", f"Basic {token}", "Bearer", "Bearer \xff"]
    for authorization in wrong:
        answer = send(node.port, request(target, Authorization=authorization, **ELSEWHERE))
        assert answer.status == 403, answer.raw
        assert not SEEN.search(answer.raw)
    assert send(node.port, request(target, **ELSEWHERE)).status == 403
    assert metric(node, name) == before + len(wrong) + 1
    reasons = re.findall(rf"operator_page_refused page={page} peer=192.0.2.7 reason='([a-z ]+)'", node.log)
    assert reasons == ["wrong token"] * len(wrong) + ["no token"]
    assert token not in node.log
    assert send(node.port, request(target, Authorization=f"Bearer {token}", **ELSEWHERE)).status == 200


def test_the_feed_of_the_admin_wants_somebody_who_may(node: DaphneNode) -> None:
    """A node that is reached directly gives it to nobody who is not logged in, and counts that."""
    before = metric(node, "realtime_operator_pages_refused_total")
    answer = send(node.port, request("/admin/feed/?page=cluster", **UPGRADE) + LAST)
    assert answer.status == 403
    assert metric(node, "realtime_operator_pages_refused_total") == before + 1


async def assert_still_served(proxy: NginxProxy | HaproxyProxy, connect: Connect) -> None:
    """A client gets in and is answered, as before."""
    client: Client = await connect(proxy.url)
    assert await client.do("ping") == {"type": "pong"}


ATTEMPTS = 40


def tries_what_is_not_for_clients(target: Target) -> None:
    """Wrong tokens, unknown methods, an upgrade where there is no WebSocket, and a page where there is one."""
    for number in target.paced(ATTEMPTS):
        tries = (
            (request("/health/", host="127.0.0.1", Authorization=f"Bearer {number}"), (403,)),
            (request("/health/", host="127.0.0.1", method="TRACE"), (403, 405)),
            (request("/health/", host="127.0.0.1", **UPGRADE) + LAST, (403, 404)),
            (request("/ws/", host="127.0.0.1"), (404,)),
        )
        asked, expected = tries[number % len(tries)]
        status = send(target.port, asked).status
        assert status in expected, (asked, status)


def test_nobody_waits_for_who_tries(siege: Siege) -> None:
    """At a node that is reached past the balancer all of it is refused, and costs the others nothing."""
    siege.withstand(
        tries_what_is_not_for_clients,
        metric='realtime_operator_pages_refused_total{page="health"}',
        log="operator_page_refused page=health .*reason='wrong token'",
    )
