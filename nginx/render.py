"""Renders nginx.conf.template: `python -m nginx.render --help`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realtime.protocol.names import address_tag

TEMPLATE = Path(__file__).with_name("nginx.conf.template")
CLIENTS = 30_000
# Two connections for each client, and some for listening, logs and static files.
CONNECTIONS = 2 * CLIENTS + 1_024
SAFE_PATH = re.compile(r'/[^"$\\\x00-\x1f]*')
SAFE_ADDRESS = re.compile(r"[\w.:\[\]-]+:\d{1,5}")
SAFE_KEY = re.compile(r"(?:\$[a-z0-9_]+)+")

# How nginx chooses a node, by the name of the strategy; README.md says when to use which.
STRATEGIES = {
    "least_conn": "        least_conn;\n",
    "round_robin": "",
    "ip_hash": "        ip_hash;\n",
    "hash": "        hash $node_key consistent;\n",
}
# A client without the key is told apart by its address: otherwise all of those would share a node.
KEY_MAP = """    map {key} $node_key {{
        default {key};
        '' $remote_addr;
    }}

"""
# Sessions are for a client that connects again, also through another worker. No tickets: nothing renews their key.
CERTIFICATE = """
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:tls:10m;
        ssl_session_timeout 1h;
        ssl_session_tickets off;
        ssl_buffer_size 4k;
"""


# A node that answers 503 to one address would pass for one that fails: nginx says no before it does.
ADDRESS_ZONES = """    limit_conn_zone $binary_remote_addr zone=connections:10m;
    limit_req_zone $binary_remote_addr zone=connects:10m rate={connects}r/s;
    limit_conn_status 429;
    limit_req_status 429;
    limit_conn_log_level notice;
    limit_req_log_level notice;

"""
ADDRESS_LIMITS = """            limit_conn connections {connections};
            limit_req zone=connects burst={burst} nodelay;
"""
BURST_SECONDS = 20  # as the nodes have it: 200 at once for 10 a second


@dataclass(frozen=True, kw_only=True)
class Site:
    """What differs between installations."""

    nodes: Sequence[str]  # host:port of each node; the first is node 1
    run_dir: Path  # pid, logs and temporary files; must exist
    static_root: Path  # what `manage.py collectstatic` filled; files that are not there are asked from a node
    public: str = "0.0.0.0:8080"
    internal: str = "127.0.0.1:8090"
    user: str = ""  # the workers' user; only root may set one
    workers: str = "auto"
    connections: int = CONNECTIONS
    strategy: str = "least_conn"
    hash_key: str = "$arg_key"  # for the strategy hash: nginx variables, here the query's parameter "key"
    certificate: Path | None = None  # with its key: TLS and HTTP/2 on the public side
    certificate_key: Path | None = None
    address_connections: int = 200  # WebSockets from one address at a time, and new ones in a second; 0: any number
    address_connects: int = 10


def render(site: Site) -> str:
    """The configuration as text. Raises ValueError for what nginx would read as something else."""
    _require_safe(site)
    values = {
        "user": f"user {site.user};\n" if site.user else "",
        "run_dir": str(site.run_dir),
        "static_root": str(site.static_root),
        "public": site.public,
        "internal": site.internal,
        "workers": site.workers,
        "connections": str(site.connections),
        "open_files": str(site.connections + 1_024),
        "tries": str(len(site.nodes)),
        "strategy": STRATEGIES[site.strategy],
        "strategy_map": KEY_MAP.format(key=site.hash_key) if site.strategy == "hash" else "",
        "tls": " ssl http2" if site.certificate else "",
        "certificate": _certificate(site),
        "address_zones": ADDRESS_ZONES.format(connects=site.address_connects) if site.address_connects else "",
        "address_limits": _address_limits(site),
        "upstream_servers": "\n".join(f"        server {node} max_fails=2 fail_timeout=5s;" for node in site.nodes),
        "session_map": "\n".join(
            f'        "~\\.{address_tag(node)}\\." node_{number};' for number, node in enumerate(site.nodes, 1)
        ),
        "session_upstreams": "\n".join(_session_upstream(site, number) for number in range(1, len(site.nodes) + 1)),
        "node_locations": "\n".join(
            f"        location /nodes/{number}/ {{\n            proxy_pass http://{node}/;\n        }}"
            for number, node in enumerate(site.nodes, 1)
        ),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], TEMPLATE.read_text())


def _certificate(site: Site) -> str:
    if site.certificate is None:
        return ""
    return CERTIFICATE.format(certificate=site.certificate, key=site.certificate_key)


def _address_limits(site: Site) -> str:
    if not site.address_connects:
        return ""
    return ADDRESS_LIMITS.format(connections=site.address_connections, burst=site.address_connects * BURST_SECONDS)


def _session_upstream(site: Site, number: int) -> str:
    """One node, with the others behind it for when it is away."""
    own = site.nodes[number - 1]
    servers = [f"server {own} max_fails=2 fail_timeout=5s;"]
    servers += [f"server {node} backup;" for node in site.nodes if node != own]
    lines = "\n".join(f"        {server}" for server in servers)
    return f"    upstream node_{number} {{\n{lines}\n    }}"


def _require_safe(site: Site) -> None:
    if not site.nodes:
        raise ValueError("at least one node is needed")
    if site.strategy not in STRATEGIES:
        raise ValueError(f"{site.strategy!r} is no strategy; there are {', '.join(STRATEGIES)}")
    if not SAFE_KEY.fullmatch(site.hash_key):
        raise ValueError(f"{site.hash_key!r} is not made of variables of nginx, such as $arg_key or $cookie_sessionid")
    if bool(site.address_connections) != bool(site.address_connects) or min(_limits_of(site)) < 0:
        raise ValueError("the two limits of an address belong together: both above 0, or both 0 for none")
    if (site.certificate is None) != (site.certificate_key is None):
        raise ValueError("a certificate and its key belong together: name the path of both")
    certificates = [path for path in (site.certificate, site.certificate_key) if path is not None]
    for path in (site.run_dir, site.static_root, *certificates):
        if not SAFE_PATH.fullmatch(str(path)):
            raise ValueError(f"nginx needs an absolute path without quotes, dollars or backslashes, not {str(path)!r}")
    for address in (*site.nodes, site.public, site.internal):
        if not SAFE_ADDRESS.fullmatch(address):
            raise ValueError(f"{address!r} is not host:port")


def _limits_of(site: Site) -> tuple[int, int]:
    return site.address_connections, site.address_connects


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m nginx.render", description="Print nginx's configuration.")
    parser.add_argument("--node", action="append", dest="nodes", metavar="HOST:PORT", help="again for each node")
    parser.add_argument("--public", default=Site.public, metavar="HOST:PORT", help="for clients (%(default)s)")
    parser.add_argument("--internal", default=Site.internal, metavar="HOST:PORT", help="for operators (%(default)s)")
    parser.add_argument("--static-root", type=Path, default=Path.cwd() / "staticfiles", help="(%(default)s)")
    parser.add_argument("--run-dir", type=Path, default=Path("/run/realtime-nginx"), help="(%(default)s)")
    parser.add_argument("--user", default="", help="the workers' user, if nginx is started by root")
    parser.add_argument("--strategy", choices=STRATEGIES, default=Site.strategy, help="(%(default)s)")
    parser.add_argument(
        "--hash-key", default=Site.hash_key, metavar="VARIABLES", help="for --strategy hash (%(default)s)"
    )
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="TLS and HTTP/2 for clients; with its chain")
    parser.add_argument("--certificate-key", type=Path, metavar="PEM", help="its key")
    parser.add_argument(
        "--address-connections", type=int, default=Site.address_connections, metavar="N",
        help="WebSockets from one address (%(default)s; 0: any number)",
    )  # fmt: skip
    parser.add_argument(
        "--address-connects", type=int, default=Site.address_connects, metavar="N",
        help="new ones in a second (%(default)s; 0: any number)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    options.nodes = options.nodes or [f"127.0.0.1:{port}" for port in (8081, 8082, 8083)]
    try:
        sys.stdout.write(render(Site(**vars(options))))
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
