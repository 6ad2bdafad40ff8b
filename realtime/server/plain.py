"""The plain way: what the ASGI specification offers, for any server, TLS and other transports included."""

from __future__ import annotations

import asyncio
import logging
from collections import deque

from realtime.limits import BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import BinaryMessage, FrameBatch
from realtime.server.socket import (
    BINARY,
    CLOSED_ABNORMALLY,
    ClientSocket,
    Receive,
    Received,
    Scope,
    Send,
    retry_after,
    send_denial,
)
from realtime.server.writer import FrameWriter

logger = logging.getLogger("realtime.server")

CLOSE_SECONDS = 5.0
"""How long a close waits for a client that does not read."""


class PlainWriter(FrameWriter):
    """Sends through ASGI ``send``; one task per connection that has something waiting."""

    __slots__ = ("_limit", "_pump", "_queue", "_send", "_size")

    def __init__(self, send: Send, limit: BacklogLimit) -> None:
        super().__init__(limit)
        self._send = send
        self._limit = limit
        self._queue: deque[bytes | CloseCode] = deque()
        self._size = 0
        self._pump: asyncio.Task[None] | None = None

    @property
    def backlog(self) -> int:
        return self._size

    def write(self, batch: FrameBatch) -> None:
        if self.is_closing:
            return
        for text in batch.texts:
            self._queue.append(text)
            self._size += len(text)
        self.tally += batch.tally
        self._start()
        if self._size > self._limit.max_bytes:
            self.on_backlog()

    def close(self, close: CloseCode) -> None:
        if self.is_closing:
            return
        self.is_closing = True
        self._queue.append(close)
        self._start()

    def stop(self) -> None:
        """The socket is gone: nothing more can be sent."""
        self.is_closing = True
        self._queue.clear()
        self._size = 0
        if self._pump is not None:
            self._pump.cancel()

    def _start(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.get_running_loop().create_task(self._run(), name="plain writer")
            self._pump.add_done_callback(_log_failure)

    async def _run(self) -> None:
        while self._queue:
            item = self._queue.popleft()
            if isinstance(item, CloseCode):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._send({"type": "websocket.close", "code": item.code, "reason": item.reason})
                return
            if isinstance(item, BinaryMessage):
                await self._send({"type": "websocket.send", "bytes": bytes(item)})
            else:
                await self._send({"type": "websocket.send", "text": item.decode("utf-8")})
            self._size -= len(item)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        # The server refuses to send on a socket that just closed; its disconnect message ends the connection.
        logger.debug("plain_send_failed error=%r", task.exception())


class PlainSocket(ClientSocket):
    """A client behind ASGI ``receive`` and ``send``."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: BacklogLimit) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._plain_writer = PlainWriter(send, limit)
        self.writer = self._plain_writer
        self.close_code = CLOSED_ABNORMALLY

    async def accept(self, subprotocol: str | None = None) -> None:
        await self._send({"type": "websocket.accept", "subprotocol": subprotocol})

    async def deny(self, status: int, *, retry_after_seconds: int | None = None) -> None:
        await send_denial(self._scope, self._send, status, retry_after(retry_after_seconds))

    async def next(self) -> Received | None:
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self.close_code = message.get("code") or CLOSED_ABNORMALLY
            self._plain_writer.stop()
            return None
        text: str | None = message.get("text")
        if text is None:
            return BinaryMessage(message.get("bytes") or b"") if self.takes_binary else BINARY
        return text.encode("utf-8", "surrogatepass")
