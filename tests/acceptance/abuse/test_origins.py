"""Pages of other sites, however they say where they come from: refused before anything is done for them. (Attack 1.)"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH
from tests.acceptance.abuse.requests import UPGRADE, Header, Response, ask
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.nodes import assert_no_traceback, get
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

HOST = b"chat.example"
SITE = b"https://chat.example"
PRODUCTION = {
    "DJANGO_DEBUG": "0",
    "DJANGO_SECRET_KEY": "a secret of these nodes alone, long enough for HS256",
    "DJANGO_ALLOWED_HOSTS": "127.0.0.1,chat.example",
    "REALTIME_ALLOWED_ORIGINS": "https://shop.example",
}
VISITORS = 150
REFUSED = (400, 403)  # servers refuse by themselves what is no header at all
FEED = b"/admin/feed/?page=cluster"
POLLING = b"/socket.io/?EIO=4&transport=polling"
WEBSOCKETS = (b"/ws/", b"/ws", b"/socket.io/?EIO=4&transport=websocket")


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer) -> Iterator[dict[str, DaphneNode]]:
    """One on daphne and one on uvicorn, with the defaults of production. This machine is the trusted proxy."""
    cluster = Cluster(redis_server.url, nodes=1, environment=PRODUCTION)
    add_uvicorn(cluster, *UNCOMPRESSED)
    with cluster:
        yield dict(zip(("daphne", "uvicorn"), cluster.nodes, strict=True))
        assert_no_traceback(cluster)


@pytest.fixture(params=["daphne", "uvicorn"])
def node(request: pytest.FixtureRequest, nodes: dict[str, DaphneNode]) -> DaphneNode:
    return nodes[request.param]


@dataclass(frozen=True)
class Page:
    """What a browser, or somebody who pretends to be one, says: the headers beside those of the handshake."""

    name: str
    origins: tuple[bytes, ...]
    host: bytes = HOST
    others: tuple[Header, ...] = ((b"X-Forwarded-Proto", b"https"),)

    def headers(self) -> list[Header]:
        return [(b"Host", self.host), *((b"Origin", origin) for origin in self.origins), *self.others]


PLAIN: tuple[Header, ...] = ()
FOREIGN = [
    Page("evil host", (b"https://evil.example",)),
    Page("null", (b"null",)),
    Page("our name within another", (b"https://chat.example.evil.example",)),
    Page("an allowed name within another", (b"https://shop.example.evil.example",)),
    Page("a subdomain", (b"https://www.chat.example",)),
    Page("other port", (b"https://chat.example:8443",)),
    Page("http page of the https site", (b"http://chat.example",)),
    Page("https page of the http site", (b"https://chat.example",), others=PLAIN),
    Page("http page of an allowed https site", (b"http://shop.example",)),
    Page("upper case of another", (b"HTTPS://EVIL.EXAMPLE",)),
    Page("trailing dot", (b"https://chat.example.",)),
    Page("user information", (b"https://chat.example@evil.example",)),
    Page("a path", (b"https://chat.example/",)),
    Page("a list", (b"https://chat.example https://evil.example",)),
    Page("empty", (b"",)),
    Page("garbage", (b"://[",)),
    Page("two origins, ours first", (SITE, b"https://evil.example")),
    Page("two origins, ours last", (b"https://evil.example", SITE)),
    Page("two origins, both ours", (SITE, SITE)),
    Page("\\x0b behind ours", (SITE + b"\x0b",)),
    Page("\\x0b and an origin", (b"https://evil.example\x0bOrigin: " + SITE,)),
    Page("\\x85 behind ours", (SITE + b"\x85",)),
    Page("\\x85 and an origin", (b"https://evil.example\x85Origin: " + SITE,)),
    Page("an origin in another header", (b"https://evil.example",), others=((b"X-A", b"b\x0bOrigin: " + SITE),)),
    Page("a name of theirs that leads to us", (b"https://rebound.evil.example",), host=b"rebound.evil.example"),
    Page("two hosts", (SITE,), others=((b"X-Forwarded-Proto", b"https"), (b"Host", b"evil.example"))),
    Page("missing, but of another site", (), others=((b"Sec-Fetch-Site", b"cross-site"),)),
]
OURS = [
    Page("our site", (SITE,)),
    Page("with its port", (b"https://chat.example:443",)),
    Page("upper case", (b"HTTPS://CHAT.EXAMPLE",)),
    Page("without TLS", (b"http://chat.example",), others=PLAIN),
    Page("an allowed site", (b"https://shop.example",)),
    Page("missing", ()),
]


def knock(node: DaphneNode, target: bytes, page: Page) -> Response:
    is_websocket = target != POLLING
    return ask(node.port, target, [*page.headers(), *(UPGRADE if is_websocket else [(b"Connection", b"close")])])


def refused(node: DaphneNode) -> float:
    """How many handshakes the node counts as refused for their origin."""
    found = re.search(
        r'^realtime_connections_refused_total\{reason="origin"\} (\S+)$', get(f"{node.http_url}/metrics"), re.M
    )
    return float(found[1]) if found else 0.0


@pytest.mark.parametrize("page", FOREIGN, ids=lambda page: page.name)
def test_a_foreign_page_is_refused(node: DaphneNode, page: Page) -> None:
    """On every way to a connection, and it may read no answer."""
    for target in WEBSOCKETS:
        assert knock(node, target, page).status in REFUSED, target
    answer = knock(node, POLLING, page)
    assert answer.status in REFUSED
    assert answer.header(b"access-control-allow-origin") is None
    assert knock(node, FEED, page).status in REFUSED


@pytest.mark.parametrize("page", OURS, ids=lambda page: page.name)
def test_a_page_of_ours_may(node: DaphneNode, page: Page) -> None:
    """And so may one of an allowed site, and a client that is no browser."""
    for target in WEBSOCKETS:
        assert knock(node, target, page).status == 101, target
    assert knock(node, POLLING, page).status == 200


def test_the_cause_is_named(node: DaphneNode) -> None:
    """A flood of foreign pages is counted, and is some lines of the log that say which and why."""
    before, log = refused(node), len(node.log)
    for _ in range(12):
        for target in (*WEBSOCKETS, POLLING, FEED):
            assert knock(node, target, FOREIGN[0]).status == 403
    assert refused(node) == before + 60
    assert node.log[log:].count("origin_refused") < 60  # three in two seconds
    assert "reason='another site' origin='https://evil.example' scheme=" in node.log


def test_nobody_but_a_trusted_proxy_says_who_a_client_is(redis_server: RedisServer) -> None:
    """Neither its address nor its scheme, and not with the flags that daphne and uvicorn have for proxies."""
    untrusting = {**PRODUCTION, "REALTIME_TRUSTED_PROXIES": "203.0.113.1"}
    cluster = Cluster(redis_server.url, nodes=1, environment=untrusting)
    cluster.nodes[0].command.append("--proxy-headers")
    add_uvicorn(cluster, *UNCOMPRESSED, "--proxy-headers", "--forwarded-allow-ips", "*")
    with cluster:
        for node in cluster.nodes:
            page = Page("", (SITE,), others=((b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-For", b"198.51.100.7")))
            assert knock(node, b"/ws/", page).status == 403
            page = Page("", (b"http://chat.example",), others=page.others)
            assert knock(node, b"/ws/", page).status == 101
            node.wait_until(lambda node=node: "connection_opened" in node.log, "told of a client")  # type: ignore[misc]
            assert "address=127.0.0.1 transport=websocket" in node.log
            assert "198.51.100.7" not in node.log
            secure = ask(node.port, b"/admin/login/", [*page.headers(), (b"Connection", b"close")])
            assert b"Strict-Transport-Security" not in secure.answer


def test_a_client_behind_a_proxy_cannot_write_its_address(node: DaphneNode) -> None:
    """The last address is the proxy's word; neither one before it counts, nor one that is smuggled in."""
    log = len(node.log)
    forwarded = ((b"X-Forwarded-For", b"198.51.100.7"), (b"X-Forwarded-For", b"198.51.100.8, 203.0.113.9"))
    assert knock(node, b"/ws/", Page("", (), others=forwarded)).status == 101
    node.wait_until(lambda: "address=203.0.113.9 transport=websocket" in node.log[log:], "told of a client")
    for byte in (b"\x0b", b"\x85"):
        smuggled = (*forwarded, (b"X-A", b"b" + byte + b"X-Forwarded-For: 198.51.100.7"))
        knock(node, b"/ws/", Page("", (), others=smuggled))
    assert knock(node, b"/ws/", Page("", (), others=((b"X-Forwarded-For", b"203.0.113.10"),))).status == 101
    node.wait_until(lambda: "address=203.0.113.10 transport=websocket" in node.log[log:], "told of the last client")
    assert "198.51.100" not in node.log[log:]


def test_a_proxy_on_a_unix_socket_is_named_as_such(redis_server: RedisServer) -> None:
    """It has no address; `unix` lets it speak for its clients, and nobody on a port."""
    cluster = Cluster(redis_server.url, nodes=1, environment={**PRODUCTION, "REALTIME_TRUSTED_PROXIES": "unix"})
    node, path = cluster.nodes[0], cluster.directory / "node.sock"
    node.command += ["-u", str(path)]
    with cluster:
        page = Page("", (SITE,), others=((b"X-Forwarded-Proto", b"https"), (b"X-Forwarded-For", b"203.0.113.9")))
        headers = [*page.headers(), *UPGRADE]
        assert ask(str(path), b"/ws/", headers).status == 101
        node.wait_until(lambda: "address=203.0.113.9 transport=websocket" in node.log, "told of a client")
        assert ask(node.port, b"/ws/", headers).status == 403
        assert_no_traceback(cluster)


def test_a_foreign_page_costs_neither_database_nor_backplane(
    request: pytest.FixtureRequest, redis_server: RedisServer
) -> None:
    """It is refused at once while both are away, whatever cookie it brings; one of ours is not."""
    with RedisServer() as redis:
        cluster = Cluster(redis.url, nodes=1, environment=PRODUCTION)
        request.node.stash.setdefault(CLUSTERS, []).append(cluster)
        add_uvicorn(cluster, *UNCOMPRESSED)
        with cluster:
            with closing(sqlite3.connect(cluster.database)) as database:
                database.execute("DROP TABLE django_session")
                database.commit()
            redis.pause()
            cookie = ((b"Cookie", b"sessionid=abcdefghijklmnopqrstuvwxyz012345"), (b"X-Forwarded-Proto", b"https"))
            for node in cluster.nodes:
                began = time.monotonic()
                for target in (*WEBSOCKETS, POLLING):
                    assert knock(node, target, Page("", (b"https://evil.example",), others=cookie)).status == 403
                assert time.monotonic() - began < 10
            assert_no_traceback(cluster)
            for node in cluster.nodes:
                # Here the session would have been read, and it cannot be.
                assert knock(node, b"/ws/", Page("", (SITE,), others=cookie)).status not in (101, 403)
            redis.resume()


def sends_visitors(target: Target) -> None:
    """A page of another site in many browsers, each with a cookie of its user."""
    cookie = (b"Cookie", b"sessionid=abcdefghijklmnopqrstuvwxyz012345")
    for number in target.paced(VISITORS):
        page, path = FOREIGN[number % len(FOREIGN)], WEBSOCKETS[number % len(WEBSOCKETS)]
        headers = [*page.headers(), cookie, *UPGRADE]
        answer = ask(target.port, path, headers, source=f"127.6.20.{number + 1}")
        assert answer.status in REFUSED, page.name


@ON_BOTH
def test_a_crowd_of_foreign_pages_harms_nobody(siege: Siege) -> None:
    """It costs those who are in no more than its requests do."""
    siege.withstand(
        sends_visitors, metric='realtime_connections_refused_total{reason="origin"}', log="origin_refused reason="
    )
