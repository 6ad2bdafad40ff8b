"""Renders haproxy.cfg.template: `python -m haproxy.render --help`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime.protocol.names import address_tag

TEMPLATE = Path(__file__).with_name("haproxy.cfg.template")
CLIENTS = 30_000
CONNECTIONS = CLIENTS + 1_024  # the rest for operators, pages and static files
CHECK_MS = 2_000
SAFE_PATH = re.compile(r"/[^'\\\x00-\x1f]*")
SAFE_ADDRESS = re.compile(r"[\w.:\[\]-]+:\d{1,5}")
SAFE_HOST = re.compile(r"[\w.:\[\]-]+")
SAFE_USER = re.compile(r"[\w-]*")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What differs between installations."""

    nodes: Sequence[str]  # host:port of each node; the first is node 1
    public: str = "0.0.0.0:8080"
    internal: str = "127.0.0.1:8090"
    user: str = ""  # the user that it becomes; only root may set one
    connections: int = CONNECTIONS
    check_ms: int = CHECK_MS  # between two checks of a node; two that fail take it out
    check_host: str = "localhost"  # a name that the nodes serve (DJANGO_ALLOWED_HOSTS)
    certificate: Path | None = None  # PEM with certificate, chain and key: TLS and HTTP/2 on the public side


def render(site: Site) -> str:
    """The configuration as text. Raises ValueError for what HAProxy would read as something else."""
    _require_safe(site)
    numbered = list(enumerate(site.nodes, 1))
    values = {
        "user": f"    user {site.user}\n" if site.user else "",
        "connections": str(site.connections),
        "retries": str(len(site.nodes)),
        "public": site.public,
        "internal": site.internal,
        "tls": f" ssl crt '{site.certificate}' alpn h2,http/1.1" if site.certificate else "",
        "scheme": "https" if site.certificate else "http",
        "check_ms": str(site.check_ms),
        "check_host": site.check_host,
        "node_choices": _lines("    use_backend node_{0} if {{ path_beg /nodes/{0}/ }}", numbered),
        "servers": _lines("    server node_{0} {1}", numbered),
        "socket_io_servers": _lines("    server node_{0} {1} track nodes/node_{0} cookie node_{0}", numbered),
        "session_choices": "\n".join(
            f"    use-server node_{number} if {{ urlp(sid) -m sub .{address_tag(node)}. }}" for number, node in numbered
        ),
        "node_backends": _lines(
            "backend node_{0}\n    http-request replace-path ^/nodes/[0-9]+(/.*) \\1\n    server node_{0} {1}", numbered
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text())


def _lines(pattern: str, nodes: Sequence[tuple[int, str]]) -> str:
    return "\n".join(pattern.format(number, address) for number, address in nodes)


def _require_safe(site: Site) -> None:
    if not site.nodes:
        raise ValueError("at least one node is needed")
    if site.certificate is not None and not SAFE_PATH.fullmatch(str(site.certificate)):
        raise ValueError(f"HAProxy needs an absolute path without quotes or backslashes, not {str(site.certificate)!r}")
    for address in (*site.nodes, site.public, site.internal):
        if not SAFE_ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is not host:port")
    if not SAFE_HOST.fullmatch(site.check_host):
        raise ValueError(f"{site.check_host!r} is not the name of a host")
    if not SAFE_USER.fullmatch(site.user):
        raise ValueError(f"{site.user!r} is not the name of a user")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m haproxy.render", description="Print HAProxy's configuration.")
    parser.add_argument("--node", action="append", dest="nodes", metavar="HOST:PORT", help="again for each node")
    parser.add_argument("--public", default=Site.public, metavar="HOST:PORT", help="for clients (%(default)s)")
    parser.add_argument("--internal", default=Site.internal, metavar="HOST:PORT", help="for operators (%(default)s)")
    parser.add_argument("--user", default="", help="the user that it becomes, if HAProxy is started by root")
    parser.add_argument("--check-ms", type=int, default=CHECK_MS, help="between two checks of a node (%(default)s)")
    parser.add_argument("--check-host", default=Site.check_host, help="a name that the nodes serve (%(default)s)")
    parser.add_argument(
        "--certificate", type=Path, metavar="PEM", help="certificate, chain and key, for TLS and HTTP/2"
    )
    options = parser.parse_args(arguments)
    options.nodes = options.nodes or [f"127.0.0.1:{port}" for port in (8081, 8082, 8083)]
    try:
        sys.stdout.write(render(Site(**vars(options))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
