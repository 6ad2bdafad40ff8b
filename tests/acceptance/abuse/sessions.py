"""Socket.IO over a bare socket: a session over a WebSocket, and requests of HTTP, well-formed as far as wanted."""

from __future__ import annotations

import json
import socket

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.engine.peer import DEADLINE_SECONDS, Peer, text

WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
POLLING = "/socket.io/?EIO=4&transport=polling"


def open_session(target: Target, **options: str) -> Peer:
    """A WebSocket with a session that has not said anything yet."""
    peer = target.connect(WEBSOCKET, **options)
    opened = peer.payload()
    assert opened[:1] == b"0", opened
    return peer


def connected(target: Target, user: int = 0, **options: str) -> Peer:
    """The same after it has connected to `/`, as one of the users."""
    peer = open_session(target, **options)
    peer.send(text("40" + json.dumps({"token": target.tokens[user]})))
    answer = peer.payload()
    assert answer[:2] == b"40", answer
    return peer


def event(name: str, *arguments: object, ack: int | None = None) -> bytes:
    """An event in its frame."""
    return text(f"42{'' if ack is None else ack}{json.dumps([name, *arguments])}")


def request(target: Target, method: str, path: str, body: bytes = b"", *, source: str) -> tuple[int, bytes]:
    """One request of HTTP on a connection of its own: the status and the body of its answer."""
    with socket.create_connection(
        ("127.0.0.1", target.port), timeout=DEADLINE_SECONDS, source_address=(source, 0)
    ) as plain:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\nConnection: close\r\n"
        plain.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = b""
        while data := plain.recv(65_536):
            answer += data
    status, _, rest = answer.partition(b"\r\n")
    return int(status.split()[1]), rest.partition(b"\r\n\r\n")[2]
