"""The servers that are measured, ours among them: how each is started, and what it speaks."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import jwt

from benchmarks.toolchain import HERE, LIMIT, Missing, install_node_packages, install_python_peer

CHECKOUT = HERE.parent
DAPHNE = (sys.executable, "-m", "daphne")
SECRET_KEY = secrets.token_hex(32)  # of our nodes in this run; signs the token


class Pace(StrEnum):
    """How much a peer can take; scenarios make themselves smaller for the slow ones and say so."""

    FAST = "fast"
    SLOW = "slow"
    STOCK = "stock"


@dataclass(frozen=True, kw_only=True)
class Site:
    """What a server is given to run with."""

    port: int
    redis_url: str
    prefix: str  # for backplanes that can share a Redis
    directory: Path  # for files; removed at the end


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One server: `command` and `environment` start one process of it on a site."""

    name: str
    title: str
    command: Callable[[Site], list[str]]
    environment: Callable[[Site], Mapping[str, str]] = field(default=lambda site: {})
    prepare: Callable[[Site], None] = field(default=lambda site: None)  # once, before its first process
    dialect: str = "plain"
    path: str = "/ws/"
    pace: Pace = Pace.FAST
    token: str = ""  # clients authenticate with it where the scenario asks for that
    has_backplane: bool = True
    has_rooms: bool = True


def limit() -> Peer:
    return Peer(
        name="limit",
        title="C limit: epoll, one send() per member, no backplane",
        command=lambda site: [str(LIMIT), str(site.port)],
        has_backplane=False,
    )


def ours(server: str = "daphne") -> Peer:
    uvicorn = [sys.executable, "-m", "uvicorn", "--ws-per-message-deflate", "false", "--log-level", "warning"]
    return Peer(
        name="ours" if server == "daphne" else f"ours-{server}",
        title=f"**ours** on {server}",
        command=lambda site: (
            [*DAPHNE, "-p", str(site.port), "config.asgi:application"]
            if server == "daphne"
            else [*uvicorn, "--port", str(site.port), "config.asgi:application"]
        ),
        environment=_our_environment,
        prepare=_migrate,
        token=_token(),
    )


def ours_socketio() -> Peer:
    """Our nodes as Socket.IO clients see them. The peers tell nobody of a join, so ours do not either."""
    return replace(
        ours(),
        name="ours-socketio",
        title="**ours**, Socket.IO clients, daphne",
        environment=lambda site: {**_our_environment(site), "REALTIME_SOCKETIO_JOIN_NOTICES": "0"},
        dialect="socketio",
        path="/socket.io/?EIO=4&transport=websocket",
        token="",
    )


def ours_uncounted() -> Peer:
    """Our node without its metrics."""
    return replace(
        ours(),
        name="ours-uncounted",
        title="**ours** without metrics, daphne",
        command=lambda site: [*DAPHNE, "-p", str(site.port), "benchmarks.peers.uncounted:application"],
    )


def node_ws() -> Peer:
    node = install_node_packages()
    return Peer(
        name="node-ws",
        title="Node ws + ioredis",
        command=lambda site: [node, "peers/node_ws.js", str(site.port), site.redis_url],
    )


def socketio() -> Peer:
    node = install_node_packages()
    return Peer(
        name="socketio",
        title="Socket.IO + Redis adapter",
        command=lambda site: [node, "peers/socketio.js", str(site.port), site.redis_url],
        dialect="socketio",
        path="/socket.io/?EIO=4&transport=websocket",
    )


def python_socketio() -> Peer:
    python = install_python_peer()
    return Peer(
        name="python-socketio",
        title="python-socketio + Redis manager, uvicorn",
        command=lambda site: [
            *[python, "-m", "uvicorn", "--app-dir", "peers", "--log-level", "warning"],
            *["--port", str(site.port), "python_socketio:application"],
        ],
        environment=lambda site: {"REDIS_URL": site.redis_url},
        dialect="socketio",
        path="/socket.io/?EIO=4&transport=websocket",
        pace=Pace.SLOW,
    )


def stock(layer: str) -> Peer:
    return Peer(
        name=f"stock-{layer}",
        title="bare daphne consumer, no layer" if layer == "none" else f"stock Channels, channels_redis.{layer}",
        command=lambda site: [
            *[sys.executable, "-m", "daphne", "-p", str(site.port), "benchmarks.peers.stock.asgi:application"]
        ],
        environment=lambda site: {
            "DJANGO_SETTINGS_MODULE": "benchmarks.peers.stock.settings",
            "PEER_LAYER": layer,
            "REDIS_URL": site.redis_url,
        },
        pace=Pace.STOCK,
        has_backplane=layer != "none",
        has_rooms=layer != "none",
    )


MAKERS: Mapping[str, Callable[[], Peer]] = {
    "ours": ours,
    "ours-uvicorn": lambda: ours("uvicorn"),
    "ours-socketio": ours_socketio,
    "ours-uncounted": ours_uncounted,
    "limit": limit,
    "node-ws": node_ws,
    "socketio": socketio,
    "python-socketio": python_socketio,
    "stock-pubsub": lambda: stock("pubsub"),
    "stock-core": lambda: stock("core"),
    "stock-none": lambda: stock("none"),
}

ON_REQUEST = frozenset({"ours-uncounted"})
"""Not in the tables."""


def working_directory(peer: Peer) -> Path:
    """Where its command line is written for."""
    is_django = peer.name.startswith(("ours", "stock"))
    return CHECKOUT if is_django else HERE


def _token() -> str:
    """What the Django project would have given to user 1 (docs/protocol.md)."""
    now = int(time.time())
    return jwt.encode({"sub": "1", "iat": now, "exp": now + 7200}, SECRET_KEY, algorithm="HS256")


RATES = (
    *("COMMANDS", "USER_COMMANDS", "ADDRESS_COMMANDS", "JOINS", "BROADCASTS"),
    *("ADDRESS_CONNECTS", "NODE_CONNECTS", "FRAGMENTS", "CONTROL_FRAMES"),
)


def _our_environment(site: Site) -> Mapping[str, str]:
    return {
        "REALTIME_CONNECTIONS_MAX": "20000",  # above the 10,000 of the biggest scenario
        # All clients come from one address. Each limit is on, so that its cost is in the figures, and none is reached.
        "REALTIME_ADDRESS_CONNECTIONS_MAX": "20000",
        "REALTIME_USER_CONNECTIONS_MAX": "20000",
        **{f"REALTIME_{name}_{part}": "1000000" for name in RATES for part in ("PER_SECOND", "BURST")},
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DJANGO_DEBUG": "1",
        "DJANGO_SECRET_KEY": SECRET_KEY,
        "BACKPLANE_URL": site.redis_url,
        "BACKPLANE_PREFIX": site.prefix,
        "DATABASE_URL": f"sqlite:///{site.directory / 'ours.sqlite3'}",
    }


def _migrate(site: Site) -> None:
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    result = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **_our_environment(site)}, capture_output=True, text=True
    )
    if result.returncode:
        raise Missing(f"the database could not be migrated: {result.stderr.strip()[-800:]}")
