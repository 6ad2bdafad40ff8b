"""A ClientSocket whose protocol hands messages over by a call, past the ASGI queue; reading stops when many wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from realtime.protocol.frames import BinaryMessage
from realtime.server.socket import (
    BINARY,
    CLOSED_ABNORMALLY,
    ClientSocket,
    Received,
    Scope,
    Send,
    retry_after,
    send_denial,
)
from realtime.server.writer import nobody

MESSAGE_COST_BYTES = 256
"""What a waiting message costs besides its bytes: a flood of small ones is bounded too."""
CROWD_MESSAGES, TURN_MESSAGES = 100, 25
"""Where more than so many wait, so many are handled before others get their turn."""


class Readable(Protocol):
    """What an inbox asks of the protocol that fills it."""

    def pause_reading(self) -> None:
        """Stop reading the client's socket: its kernel holds the rest back."""

    def resume_reading(self) -> None:
        """Read again."""


class InboxSocket(ClientSocket):
    """One client. The protocol calls ``received`` for each message, and ``ended`` once."""

    __slots__ = (
        "_inbox",
        "_is_ended",
        "_is_paused",
        "_readable",
        "_scope",
        "_send",
        "_taken",
        "_waiter",
        "_waiting_bytes",
        "_waiting_max",
        "close_code",
        "on_held_back",
        "takes_binary",
        "writer",
    )

    def __init__(self, readable: Readable, scope: Scope, send: Send, inbox_max_bytes: int) -> None:
        self._readable = readable
        self._scope = scope
        self._send = send
        # Two lists, the second one reversed, are a queue of 112 bytes while empty; a deque takes 760.
        self._inbox: list[Received] = []
        self._taken: list[Received] = []
        self._waiting_bytes = 0
        self._waiting_max = inbox_max_bytes
        self._is_paused = False
        self._is_ended = False
        self._waiter: asyncio.Future[None] | None = None
        self.close_code = CLOSED_ABNORMALLY
        self.on_held_back: Callable[[], None] = nobody
        self.takes_binary = False

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    async def deny(self, status: int, *, retry_after_seconds: int | None = None) -> None:
        await send_denial(self._scope, self._send, status, retry_after(retry_after_seconds))

    async def next(self) -> Received | None:
        while not self._taken:
            if len(self._inbox) > CROWD_MESSAGES:
                self._taken = self._inbox[TURN_MESSAGES - 1 :: -1]
                del self._inbox[:TURN_MESSAGES]
                await asyncio.sleep(0)  # who sends that much does not hold up the others
            elif self._inbox:
                self._inbox.reverse()
                self._taken, self._inbox = self._inbox, self._taken
            elif self._is_ended:
                return None
            else:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
        message = self._taken.pop()
        self._waiting_bytes -= MESSAGE_COST_BYTES if message is BINARY else len(message) + MESSAGE_COST_BYTES
        if self._is_paused and self._waiting_bytes * 2 < self._waiting_max:
            self._is_paused = False
            self._readable.resume_reading()
        return message

    @property
    def is_paused(self) -> bool:
        """Whether its client is not read, because so much waits."""
        return self._is_paused

    def received(self, payload: bytes, is_binary: bool) -> None:
        """A whole message came."""
        message = payload if not is_binary else BinaryMessage(payload) if self.takes_binary else BINARY
        self._inbox.append(message)
        self._waiting_bytes += MESSAGE_COST_BYTES if message is BINARY else len(payload) + MESSAGE_COST_BYTES
        if not self._is_paused and self._waiting_bytes > self._waiting_max:
            self._is_paused = True
            self._readable.pause_reading()
            self.on_held_back()
        self._wake()

    def ended(self, code: int) -> None:
        """The socket is gone."""
        self.close_code = code
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
