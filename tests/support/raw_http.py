"""HTTP requests byte by byte, as no library would send them."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class Answer:
    """The status, 0 when the connection was closed without one, and everything that came."""

    status: int
    raw: bytes

    @property
    def head(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.raw.partition(b"\r\n\r\n")[2]


def send(port: int, request: bytes) -> Answer:
    """Send these bytes to a server of the loopback and read until it closes the connection."""
    came = b""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(request)
        try:
            while part := connection.recv(65_536):
                came += part
                if came.startswith(b"HTTP/1.1 101"):
                    break  # a WebSocket stays open
        except ConnectionResetError:
            pass
    found = re.match(rb"HTTP/1\.[01] (\d{3})", came)
    return Answer(int(found[1]) if found else 0, came)


def request(
    target: str, *, method: str = "GET", version: str = "1.1", host: str | None = "localhost", **headers: str
) -> bytes:
    """A request whose connection ends with the answer."""
    lines = [f"{method} {target} HTTP/{version}", *([] if host is None else [f"Host: {host}"])]
    given = {"Connection": "close", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines += [f"{name}: {value}" for name, value in given.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
