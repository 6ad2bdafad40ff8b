"""HAProxy accepts our configuration and does what it says, in front of servers that tell what reached them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from devtools.ports import free_port
from haproxy.render import CLIENTS, Site, render
from realtime.protocol.names import session_id
from tests.acceptance.conftest import StartBackend
from tests.support.backends import READY, get, seen
from tests.support.cluster import require_program
from tests.support.haproxy import HaproxyProxy
from tests.support.processes import CHECKOUT
from tests.support.raw_http import request, send
from tests.support.tls import Pair, self_signed

StartProxy = Callable[..., HaproxyProxy]
END_OF_STREAM = b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"  # RST_STREAM 1, as the request was left open


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[StartProxy]:
    """Starts HAProxy in front of some ports and ends it after the test."""
    started: list[HaproxyProxy] = []

    def start(*ports: int, **changes: Any) -> HaproxyProxy:
        started.append(HaproxyProxy(ports, tmp_path, **changes))
        return started[-1].start()

    yield start
    for each in started:
        each.kill()


@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ["run", 'a directory; with {odd} "name"'])
def test_haproxy_accepts_the_configuration(tmp_path: Path, name: str, has_tls: bool) -> None:
    """`haproxy -c` accepts the configuration for three nodes without a warning, with a certificate in a directory with
    an odd name as well."""
    directory = tmp_path / name
    directory.mkdir()
    nodes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    certificate = self_signed(directory).both if has_tls else None
    configuration = directory / "haproxy.cfg"
    configuration.write_text(render(Site(nodes=nodes, certificate=certificate)))
    command = [require_program("haproxy"), "-c", "-f", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_the_command_line_renders_the_same() -> None:
    """`python -m haproxy.render` prints the configuration for the nodes and options that it is told."""
    command = [sys.executable, "-m", "haproxy.render", "--node", "10.0.0.1:8001", "--node", "10.0.0.2:8001"]
    options = ["--public", "0.0.0.0:443", "--certificate", "/etc/tls/site.pem", "--user", "haproxy"]
    options += ["--check-host", "chat.example", "--check-ms", "500"]
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=30)
    site = Site(
        nodes=["10.0.0.1:8001", "10.0.0.2:8001"],
        public="0.0.0.0:443",
        certificate=Path("/etc/tls/site.pem"),
        user="haproxy",
        check_host="chat.example",
        check_ms=500,
    )
    assert done.stdout == render(site)


def test_there_is_room_for_all_clients_and_time_for_them() -> None:
    """30,000 clients fit; connecting may take 60 s, and a connection may be silent for an hour."""
    text = render(Site(nodes=["127.0.0.1:1"]))
    assert CLIENTS == 30_000
    assert int(re.findall(r"maxconn (\d+)", text)[0]) > CLIENTS
    timeouts = dict(re.findall(r"timeout (\S+) +(\S+)", text))
    assert (timeouts["connect"], timeouts["client"], timeouts["server"]) == ("60s", "3600s", "3600s")
    assert timeouts["tunnel"] == "3600s"


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": []},
        {"nodes": ["127.0.0.1:80 backup"]},
        {"public": "8080"},
        {"certificate": Path("relative.pem")},
        {"certificate": Path("/a'b.pem")},
        {"check_host": "a b"},
        {"user": "root\n"},
    ],
)
def test_what_haproxy_would_misread_is_refused(change: dict[str, Any]) -> None:
    """A value that would end a word or begin a line is a ValueError."""
    options: dict[str, Any] = {"nodes": ["127.0.0.1:1"], **change}
    with pytest.raises(ValueError, match=r"node|path|host:port|name"):
        render(Site(**options))


def test_operators_paths_are_on_the_internal_side_only(backend: StartBackend, proxy: StartProxy) -> None:
    """Admin, metrics and health are there for operators, and 404 for clients however the path is spelt."""
    haproxy = proxy(backend().port)
    for path in ("/admin/", "/admin", "/admin/login/", "/metrics", "/metrics/", READY, "/health/"):
        assert get(haproxy.public_port, path)[0] == 404, path
        assert seen(haproxy.internal_port, path)["path"] == path
    for path in ("//admin/", "/%61dmin/", "/metrics%0a", "/metrics%2f", "/health%2fready", "/admin?next=/", "/haproxy"):
        status, body = get(haproxy.public_port, path)
        assert status == 404 or json.loads(body)["path"] == "/haproxy", path
    assert seen(haproxy.public_port, "/administration")["path"] == "/administration"


def test_clients_paths_are_on_the_public_side_only(backend: StartBackend, proxy: StartProxy) -> None:
    """The internal side has neither the page nor the WebSocket; static files are on both."""
    haproxy = proxy(backend().port)
    for path in ("/", "/ws", "/ws/", "/socket.io/"):
        assert seen(haproxy.public_port, path)["path"] == path
        assert get(haproxy.internal_port, path)[0] == 404
    for port in (haproxy.public_port, haproxy.internal_port):
        assert seen(port, "/static/realtime/client.js")["path"] == "/static/realtime/client.js"


def test_one_node_is_reached_by_its_number(backend: StartBackend, proxy: StartProxy) -> None:
    """/nodes/2/metrics on the internal side is /metrics of the second node, as a scraper needs it."""
    haproxy = proxy(backend("one").port, backend("two").port)
    for number, name in ((1, "one"), (2, "two")):
        answer = seen(haproxy.internal_port, f"/nodes/{number}/metrics?x=1")
        assert (answer["name"], answer["path"]) == (name, "/metrics?x=1")


@pytest.mark.parametrize("path", ["/x/../y", "/./y", "/x/%2e%2e/y", "/x/..%2fy", "/..", "/x/."])
def test_a_path_with_dots_reaches_no_node(backend: StartBackend, proxy: StartProxy, path: str) -> None:
    """What a node might read as another path is answered with 400; dots in a name are only dots."""
    node = backend()
    haproxy = proxy(node.port)
    assert send(haproxy.public_port, request(path)).status == 400
    assert send(haproxy.public_port, request("/ws/", method="TRACE")).status == 405
    assert node.requests == 0
    assert seen(haproxy.public_port, "/..x/.well-known/a..b")["path"] == "/..x/.well-known/a..b"


def test_every_answer_has_nosniff_once(backend: StartBackend, proxy: StartProxy) -> None:
    """A node's answer, which has the header already, and HAProxy's own errors and pages; on both sides."""
    node = backend(sent_headers={"x-content-type-options": "nosniff"})
    haproxy = proxy(node.port)
    for port, targets in (
        (haproxy.public_port, ("/", "/static/some.js", "/metrics", "/x/../y")),
        (haproxy.internal_port, ("/metrics", "/nodes/1/metrics", "/haproxy", "/")),
    ):
        for target in targets:
            assert send(port, request(target)).head.count(b"x-content-type-options: nosniff") == 1, target
    node.close()
    answer = send(haproxy.public_port, request("/"))
    assert answer.status == 503
    assert answer.head.count(b"x-content-type-options: nosniff") == 1


def test_the_node_learns_who_asks(backend: StartBackend, proxy: StartProxy) -> None:
    """Host, address and scheme of the request reach the node; what the client claims does not."""
    haproxy = proxy(backend().port)
    claims = {"X_Forwarded_For": "192.0.2.1", "X_Real_IP": "192.0.2.1", "X_Forwarded_Proto": "https"}
    claims |= {"X_Forwarded_Host": "evil.example", "Forwarded": "for=192.0.2.1"}
    headers = seen(haproxy.public_port, "/", Host="chat.example:8080", **claims)["headers"]
    assert headers["host"] == headers["x-forwarded-host"] == "chat.example:8080"
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-port"] == str(haproxy.public_port)
    assert "forwarded" not in headers


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/socket.io/?EIO=4"])
def test_an_upgrade_reaches_the_node(backend: StartBackend, proxy: StartProxy, path: str) -> None:
    """The handshake of a WebSocket goes through; an ordinary request asks for no upgrade."""
    haproxy = proxy(backend().port)
    key = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}
    headers = seen(haproxy.public_port, path, Connection="Upgrade", Upgrade="websocket", **key)["headers"]
    assert headers["upgrade"] == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert "upgrade" not in seen(haproxy.public_port, path)["headers"]


def test_long_polling_stays_on_its_node(backend: StartBackend, proxy: StartProxy) -> None:
    """A client of Socket.IO that returns its cookie is answered by the same node each time."""
    haproxy = proxy(backend("one").port, backend("two").port)
    names = set()
    for _ in range(4):
        with httpx.Client(base_url=f"http://127.0.0.1:{haproxy.public_port}") as client:
            asked = {client.get("/socket.io/?EIO=4").json()["name"] for _ in range(4)}
        assert len(asked) == 1
        names |= asked
    assert names == {"one", "two"}


def test_the_requests_of_a_session_reach_its_node(backend: StartBackend, proxy: StartProxy) -> None:
    """By the session's id, without a cookie; those of a node that is not there reach another one."""
    dead = free_port()
    servers = {name: backend(name).port for name in ("one", "two")}
    haproxy = proxy(dead, *servers.values())
    for name, port in servers.items():
        sid = session_id("n-abcdef", f"127.0.0.1:{port}", "A" * 22)
        asked = {seen(haproxy.public_port, f"/socket.io/?EIO=4&sid={sid}")["name"] for _ in range(6)}
        assert asked == {name}
    sid = session_id("n-abcdef", f"127.0.0.1:{dead}", "A" * 22)
    assert seen(haproxy.public_port, f"/socket.io/?EIO=4&sid={sid}")["name"] in servers


def test_a_dead_node_is_passed_over(backend: StartBackend, proxy: StartProxy) -> None:
    """While one of two nodes does not accept connections, every request is answered by the other."""
    haproxy = proxy(free_port(), backend("alive").port, check_ms=60_000)
    assert {seen(haproxy.public_port, "/ws/")["name"] for _ in range(10)} == {"alive"}


def test_a_full_node_is_passed_over(backend: StartBackend, proxy: StartProxy) -> None:
    """A 503 sends the request to another node, though the checks find nothing wrong."""
    full = backend("full", status=503)
    haproxy = proxy(full.port, backend("alive").port)
    assert {seen(haproxy.public_port, "/ws/")["name"] for _ in range(10)} == {"alive"}
    assert full.requests > 0
    assert haproxy.is_up(1)


def test_a_node_is_out_after_two_checks_and_back_after_two(backend: StartBackend, proxy: StartProxy) -> None:
    """Readiness that turns red takes a node out with the second check; green again it is back."""
    turning = backend("turning")
    haproxy = proxy(turning.port, backend("steady").port)
    haproxy.wait_checked()
    failed = int(haproxy.node(1)["chkfail"])
    turning.ready_status = 503
    haproxy.wait_until(lambda: not haproxy.is_up(1), "told that node 1 is not ready")
    assert int(haproxy.node(1)["chkfail"]) == failed + 2
    before = turning.requests
    assert {seen(haproxy.public_port, "/ws/")["name"] for _ in range(10)} == {"steady"}
    assert turning.requests == before
    turning.ready_status = 200
    haproxy.wait_until(lambda: haproxy.is_up(1), "told that node 1 is ready again")


def test_a_post_is_not_sent_twice(backend: StartBackend, proxy: StartProxy) -> None:
    """A POST that a node has read is not repeated on the next one; a large one does not reach a node."""
    nodes = [backend(name, status=503) for name in ("one", "two")]
    haproxy = proxy(*(node.port for node in nodes))
    assert get(haproxy.public_port, "/", "POST")[0] == 503
    assert sum(node.requests for node in nodes) == 1
    assert get(haproxy.public_port, "/", "POST", Content_Length="2000000")[0] == 413
    assert sum(node.requests for node in nodes) == 1


def test_tls_ends_at_haproxy(backend: StartBackend, proxy: StartProxy, tmp_path: Path) -> None:
    """With a certificate clients get TLS and, if they want it, HTTP/2; the node learns that it was https."""
    pair = self_signed(tmp_path)
    haproxy = proxy(backend().port, certificate=pair.both)
    assert pair.protocol(haproxy.public_port, "h2", "http/1.1") == "h2"
    assert pair.protocol(haproxy.public_port, "http/1.1") == "http/1.1"
    answer = httpx.get(f"https://localhost:{haproxy.public_port}/ws/", verify=pair.trusting()).json()
    assert answer["headers"]["x-forwarded-proto"] == "https"


def test_a_websocket_may_be_a_stream_of_http2(backend: StartBackend, proxy: StartProxy, tmp_path: Path) -> None:
    """A browser that has HTTP/2 already opens its WebSocket inside it (RFC 8441, a CONNECT); the node sees the usual
    handshake. Any other CONNECT gets 405."""
    pair = self_signed(tmp_path)
    node = backend()
    haproxy = proxy(node.port, certificate=pair.both)
    websocket = {":protocol": "websocket", ":scheme": "https", ":path": "/ws/", "sec-websocket-version": "13"}
    answer = connect_in_http2(pair, haproxy.public_port, websocket)
    assert b"\x00\x08\x00\x00\x00\x01" in answer  # SETTINGS_ENABLE_CONNECT_PROTOCOL: without it browsers do not try
    found = json.loads(re.findall(rb"\{.*\}", answer)[0])
    assert (found["path"], found["headers"]["upgrade"]) == ("/ws/", "websocket")
    assert found["headers"]["sec-websocket-key"]
    assert b"405" in connect_in_http2(pair, haproxy.public_port, {})
    assert node.requests == 1


def connect_in_http2(pair: Pair, port: int, headers: dict[str, str]) -> bytes:
    """Everything that comes until the end of a stream that begins with a CONNECT."""
    context = pair.trusting()
    context.set_alpn_protocols(["h2"])
    fields = {":method": "CONNECT", ":authority": "localhost", **headers}
    block = b"".join(b"\0" + word(name) + word(value) for name, value in fields.items())
    came = b""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname="localhost") as encrypted,
    ):
        encrypted.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0) + frame(1, 4, 1, block))
        while not came.endswith(END_OF_STREAM):
            part = encrypted.recv(65_536)
            assert part, came
            came += part
    return came


def word(text: str) -> bytes:
    """A text of HPACK, as it is."""
    return bytes([len(text)]) + text.encode()


def frame(kind: int, flags: int, stream: int, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + body
