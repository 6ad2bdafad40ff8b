"""Requests written byte by byte: what no library would send."""

from __future__ import annotations

import socket
from collections.abc import Iterable

DEADLINE_SECONDS = 15.0  # for what takes milliseconds on an idle machine

Header = tuple[bytes, bytes]

UPGRADE: tuple[Header, ...] = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)


class Response:
    """The status of an answer, and its bytes as far as they came with it."""

    def __init__(self, answer: bytes) -> None:
        assert answer.startswith(b"HTTP/1.1 "), answer[:200]
        self.status = int(answer.split(b" ", 2)[1])
        self.answer = answer

    def header(self, name: bytes) -> bytes | None:
        """The first header of that name."""
        for line in self.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return None


def ask(where: int | str, target: bytes, headers: Iterable[Header], *, source: str = "127.0.0.1") -> Response:
    """Send one request with exactly these headers, to a port or a socket at a path, and read the head of the answer."""
    request = b"GET " + target + b" HTTP/1.1\r\n"
    request += b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n"
    answer = b""
    with socket.socket(socket.AF_INET if isinstance(where, int) else socket.AF_UNIX) as connection:
        connection.settimeout(DEADLINE_SECONDS)
        if isinstance(where, int):
            connection.bind((source, 0))
        connection.connect(("127.0.0.1", where) if isinstance(where, int) else where)
        connection.sendall(request)
        while b"\r\n\r\n" not in answer and (data := connection.recv(65_536)):
            answer += data
    return Response(answer)
