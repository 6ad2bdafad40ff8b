"""The contract of a ClientSocket: one client's socket as the consumer sees it, whatever the server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any, Final, Literal

from realtime.server.writer import FrameWriter, nobody

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class Binary(Enum):
    """Stands for a binary message, whose bytes nobody wants."""

    MESSAGE = "binary message"


BINARY: Final = Binary.MESSAGE
Received = bytes | Literal[Binary.MESSAGE]

CLOSED_ABNORMALLY: Final = 1006
"""The close code of a socket that ended without a close frame (RFC 6455 section 7.1.5)."""


class ClientSocket(ABC):
    """From handshake to close. The calls come in this order: ``accept`` or ``deny``; ``next`` until it says None."""

    writer: FrameWriter
    """Usable once accepted."""
    close_code: int
    """How the socket ended, valid after ``next`` said None."""
    close_reason: str = ""
    """Why the server ended it by itself, for a violation of the protocol or a limit."""
    on_control_frame: Callable[[], None] = staticmethod(nobody)
    """Called for each ping and pong of the client; never on the plain way, where the server keeps them to itself."""
    on_held_back: Callable[[], None] = staticmethod(nobody)
    """Called when the client is not read any more because too much of it waits; never on the plain way, where the
    server reads as it likes."""
    takes_binary: bool = False
    """Whether ``next`` gives binary messages as what they are; without that, as ``BINARY``."""

    @abstractmethod
    async def accept(self, subprotocol: str | None = None) -> None:
        """Complete the handshake."""

    @abstractmethod
    async def deny(self, status: int, *, retry_after_seconds: int | None = None) -> None:
        """Refuse the handshake with this HTTP status (a server that cannot answers 403)."""

    @abstractmethod
    async def next(self) -> Received | None:
        """The next message in UTF-8; None when the socket has ended and all that came before was taken.

        A client that sends faster than this is called is not read: the kernel's window closes.
        """


REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


async def send_denial(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Refuse a WebSocket handshake: with ``status`` where the server has ASGI's denial extension, else as it can."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008, "reason": REASONS.get(status, "")})
        return
    body = f"{status} {REASONS.get(status, '')}\n".encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def retry_after(seconds: int | None) -> list[tuple[bytes, bytes]]:
    """The header that asks a client to come back later."""
    return [] if seconds is None else [(b"retry-after", str(seconds).encode())]
