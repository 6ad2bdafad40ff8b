"""nginx accepts our configuration and does what it says, in front of servers that tell what reached them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from devtools.ports import free_port
from nginx.render import CLIENTS, STRATEGIES, Site, render
from realtime.protocol.names import session_id
from tests.acceptance.conftest import StartBackend
from tests.support.backends import get, seen
from tests.support.cluster import NginxProxy, require_program
from tests.support.processes import CHECKOUT
from tests.support.raw_http import request, send
from tests.support.tls import self_signed


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Callable[..., NginxProxy]]:
    """Starts nginx in front of some ports and ends it after the test."""
    started: list[NginxProxy] = []

    def start(*ports: int, **changes: Any) -> NginxProxy:
        require_program("nginx")
        started.append(NginxProxy(list(ports), tmp_path, **changes))
        return started[-1].start()

    yield start
    for each in started:
        each.kill()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("has_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("run_dir", ["run", "a directory; with {odd} 'name'"])
def test_nginx_accepts_the_configuration(tmp_path: Path, run_dir: str, strategy: str, has_tls: bool) -> None:
    """`nginx -t` accepts each variant for three nodes, also in a directory with an odd name."""
    directory = tmp_path / run_dir
    directory.mkdir()
    configuration = directory / "nginx.conf"
    nodes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    public, internal = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    site = Site(
        nodes=nodes, run_dir=directory, static_root=directory, public=public, internal=internal, strategy=strategy
    )
    if has_tls:
        pair = self_signed(directory)
        site = replace(site, certificate=pair.certificate, certificate_key=pair.key)
    configuration.write_text(render(site))
    command = [require_program("nginx"), "-t", "-e", "stderr", "-p", str(directory), "-c", str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    assert "[warn]" not in done.stderr


def test_the_command_line_renders_the_same(tmp_path: Path) -> None:
    """`python -m nginx.render` prints the configuration for the nodes that it is told."""
    command = [sys.executable, "-m", "nginx.render", "--node", "10.0.0.1:8001", "--node", "10.0.0.2:8001"]
    options = ["--run-dir", str(tmp_path), "--static-root", str(tmp_path), "--public", "0.0.0.0:443"]
    options += ["--strategy", "hash", "--hash-key", "$cookie_sessionid"]
    options += ["--certificate", "/etc/tls/chain.pem", "--certificate-key", "/etc/tls/key.pem"]
    done = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, timeout=30)
    site = Site(
        nodes=["10.0.0.1:8001", "10.0.0.2:8001"],
        run_dir=tmp_path,
        static_root=tmp_path,
        public="0.0.0.0:443",
        strategy="hash",
        hash_key="$cookie_sessionid",
        certificate=Path("/etc/tls/chain.pem"),
        certificate_key=Path("/etc/tls/key.pem"),
    )
    assert done.stdout == render(site)


def test_there_is_room_for_all_clients(tmp_path: Path) -> None:
    """Each worker may hold two connections, and two open files, for each of 30,000 clients."""
    text = render(Site(nodes=["127.0.0.1:1"], run_dir=tmp_path, static_root=tmp_path))
    connections = int(re.findall(r"worker_connections (\d+);", text)[0])
    files = int(re.findall(r"worker_rlimit_nofile (\d+);", text)[0])
    assert CLIENTS == 30_000
    assert connections >= 2 * CLIENTS
    assert files > connections


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": []},
        {"nodes": ["127.0.0.1:80; }"]},
        {"public": "8080"},
        {"run_dir": Path("relative")},
        {"static_root": Path('/a"b')},
        {"static_root": Path("/a$b")},
        {"strategy": "least_time"},
        {"strategy": "hash", "hash_key": "$arg_key; }"},
        {"certificate": Path("/a.pem")},
        {"address_connections": 0},
        {"address_connections": -1, "address_connects": -1},
        {"certificate": Path('/a"b.pem'), "certificate_key": Path("/a.key")},
    ],
)
def test_what_nginx_would_misread_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    """A value that would end a directive or name a variable is a ValueError."""
    options: dict[str, Any] = {
        "nodes": ["127.0.0.1:1"],
        "run_dir": tmp_path,
        "static_root": tmp_path,
        **change,
    }
    with pytest.raises(ValueError, match=r"node|path|host:port|strategy|variables|limits"):
        render(Site(**options))


def test_operators_paths_are_on_the_internal_side_only(backend: StartBackend, proxy: Any) -> None:
    """Admin, metrics and health are there for operators, and 404 for clients however the path is spelt."""
    nginx = proxy(backend().port)
    for path in ("/admin/", "/admin", "/admin/login/", "/metrics", "/metrics/", "/health/ready", "/health/"):
        assert get(nginx.public_port, path)[0] == 404, path
        assert seen(nginx.internal_port, path)["path"] == path
    for path in (
        "//admin/",
        "/./admin/",
        "/x/../admin/",
        "/%61dmin/",
        "/static/../metrics",
        "/nodes/1/metrics",
    ):
        status, body = get(nginx.public_port, path)
        assert status == 404 or json.loads(body)["path"] == "/nodes/1/metrics", path


def test_an_address_that_connects_too_often_is_refused_by_nginx(backend: StartBackend, proxy: Any) -> None:
    """429 after a burst, for WebSockets alone and without asking a node; the node is asked for everything else."""
    nginx = proxy(backend().port, address_connections=50, address_connects=1)
    answers = [get(nginx.public_port, "/ws/")[0] for _ in range(60)]
    assert set(answers[:20]) == {200}
    assert answers.count(429) >= 20
    assert seen(nginx.public_port, "/")["path"] == "/"


def test_clients_paths_are_on_the_public_side_only(backend: StartBackend, proxy: Any) -> None:
    """The internal side has neither the page nor the WebSocket."""
    nginx = proxy(backend().port)
    for path in ("/", "/ws", "/ws/", "/socket.io/"):
        assert seen(nginx.public_port, path)["path"] == path
        assert get(nginx.internal_port, path)[0] == 404


def test_one_node_is_reached_by_its_number(backend: StartBackend, proxy: Any) -> None:
    """/nodes/2/metrics on the internal side is /metrics of the second node, as a scraper needs it."""
    nginx = proxy(backend("one").port, backend("two").port)
    for number, name in ((1, "one"), (2, "two")):
        answer = seen(nginx.internal_port, f"/nodes/{number}/metrics")
        assert (answer["name"], answer["path"]) == (name, "/metrics")


def test_the_requests_of_a_session_reach_its_node(backend: StartBackend, proxy: Any) -> None:
    """By the session's id; those of a node that is not there reach another one, which carries them if it can."""
    dead = free_port()
    servers = {name: backend(name).port for name in ("one", "two")}
    nginx = proxy(dead, *servers.values())
    for name, port in servers.items():
        sid = session_id("n-abcdef", f"127.0.0.1:{port}", "A" * 22)
        asked = {seen(nginx.public_port, f"/socket.io/?EIO=4&sid={sid}")["name"] for _ in range(6)}
        assert asked == {name}
    sid = session_id("n-abcdef", f"127.0.0.1:{dead}", "A" * 22)
    assert seen(nginx.public_port, f"/socket.io/?EIO=4&sid={sid}")["name"] in servers


def test_every_answer_has_nosniff_once(backend: StartBackend, proxy: Any) -> None:
    """A node's answer, which has the header already, a file from the disk, and nginx's own errors; on both sides."""
    node = backend(sent_headers={"x-content-type-options": "nosniff"})
    nginx = proxy(node.port)
    nginx.site.static_root.mkdir(parents=True)
    (nginx.site.static_root / "some.js").write_text("// collected")
    for port, targets in (
        (nginx.public_port, ("/", "/static/some.js", "/static/other.js", "/metrics", "/%00")),
        (nginx.internal_port, ("/metrics", "/static/some.js", "/nodes/1/metrics", "/")),
    ):
        for target in targets:
            assert send(port, request(target)).head.count(b"x-content-type-options: nosniff") == 1, target
    node.close()
    answer = send(nginx.public_port, request("/"))
    assert answer.status in (502, 504)
    assert answer.head.count(b"x-content-type-options: nosniff") == 1


def test_the_node_learns_who_asks(backend: StartBackend, proxy: Any) -> None:
    """Host, address and scheme of the request reach the node; what the client claims does not."""
    nginx = proxy(backend().port)
    claims = {"X_Forwarded_For": "192.0.2.1", "X_Real_IP": "192.0.2.1", "X_Forwarded_Proto": "https"}
    headers = seen(nginx.public_port, "/", Host="chat.example:8080", **claims)["headers"]
    assert headers["host"] == "chat.example:8080"
    assert headers["x-real-ip"] == headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-proto"] == "http"


def test_tls_ends_at_nginx(backend: StartBackend, proxy: Any, tmp_path: Path) -> None:
    """With a certificate clients get TLS and, if they want it, HTTP/2; the node learns that it was https."""
    pair = self_signed(tmp_path)
    nginx = proxy(backend().port, certificate=pair.certificate, certificate_key=pair.key)
    assert pair.protocol(nginx.public_port, "h2", "http/1.1") == "h2"
    assert pair.protocol(nginx.public_port, "http/1.1") == "http/1.1"
    answer = httpx.get(f"https://localhost:{nginx.public_port}/ws/", verify=pair.trusting()).json()
    assert answer["headers"]["x-forwarded-proto"] == "https"


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/socket.io/?EIO=4"])
def test_an_upgrade_reaches_the_node(backend: StartBackend, proxy: Any, path: str) -> None:
    """The handshake of a WebSocket goes through; an ordinary request asks for no upgrade."""
    nginx = proxy(backend().port)
    headers = seen(nginx.public_port, path, Connection="Upgrade", Upgrade="websocket")["headers"]
    assert headers["upgrade"] == "websocket"
    assert headers["connection"] == "upgrade"
    assert "upgrade" not in seen(nginx.public_port, path)["headers"]


def test_a_dead_node_is_passed_over(backend: StartBackend, proxy: Any) -> None:
    """While one of two nodes does not accept connections, every request is answered by the other."""
    nginx = proxy(free_port(), backend("alive").port)
    assert {seen(nginx.public_port, "/ws/")["name"] for _ in range(10)} == {"alive"}


def test_a_node_that_drains_is_passed_over(backend: StartBackend, proxy: Any) -> None:
    """A 503 sends the request to the next node."""
    draining = backend("draining", status=503)
    nginx = proxy(draining.port, backend("alive").port)
    assert {seen(nginx.public_port, "/ws/")["name"] for _ in range(10)} == {"alive"}
    assert draining.requests > 0


def test_a_post_is_not_sent_twice(backend: StartBackend, proxy: Any) -> None:
    """A POST that a node has read is not repeated on the next one."""
    nodes = [backend(name, status=503) for name in ("one", "two")]
    nginx = proxy(*(node.port for node in nodes))
    assert get(nginx.public_port, "/", "POST")[0] == 503
    assert sum(node.requests for node in nodes) == 1


def test_static_files_come_from_the_disk_or_from_a_node(backend: StartBackend, proxy: Any) -> None:
    """Collected static files are served by nginx itself; the others are asked from a node."""
    nginx = proxy(backend().port)
    static = nginx.site.static_root / "realtime"
    static.mkdir(parents=True)
    (static / "client.js").write_text("// collected")
    for port in (nginx.public_port, nginx.internal_port):
        assert get(port, "/static/realtime/client.js") == (200, "// collected")
        assert seen(port, "/static/realtime/other.js")["path"] == "/static/realtime/other.js"
