"""Requests for a session of another node: carried there over a stream, answered from there.

The *near* side has the client, the *far* side its session. A poll or a post is one message to and one message from
the far side, which ends the stream with the HTTP status. A WebSocket is a stream of messages both ways.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from realtime.limits import BacklogLimit
from realtime.node import Node
from realtime.protocol.closing import CLOSE_CODES, POLICY_VIOLATION, SLOW_CONSUMER, TRY_AGAIN_LATER, CloseCode
from realtime.protocol.engineio import Refusal
from realtime.protocol.frames import MixedBatch
from realtime.server.socket import CLOSED_ABNORMALLY, ClientSocket, Received
from realtime.socketio.session import Answer, CarriedWriter, Session, refused
from realtime.streams import INTERRUPTED, UNKNOWN, Stream

POLL, POST, WEBSOCKET = "poll", "post", "websocket"
CLIENT_GONE = 499
WATCH_SECONDS = 0.25
"""How often the near side looks at a client that reads too slowly."""


# -- near ------------------------------------------------------------------------------------------------------------


async def carry_request(node: Node, node_id: str, kind: str, session_id: str, body: bytes, seconds: float) -> Answer:
    """Have another node answer a poll or a post."""
    stream = node.streams.open(node_id, kind, session_id)
    answer: bytes | None = None
    try:
        stream.send(body)
        async with asyncio.timeout(seconds):
            answer = await stream.next()
            while await stream.next() is not None:
                pass
    except TimeoutError:
        pass
    finally:
        stream.end(CLIENT_GONE)
    if answer is None or stream.status is None:
        return refused(Refusal.UNKNOWN_SESSION if stream.status == UNKNOWN else Refusal.UNAVAILABLE)
    return Answer(stream.status, answer)


async def carry_websocket(node: Node, node_id: str, session_id: str, client: ClientSocket) -> None:
    """Carry a WebSocket for as long as it lives. The stream is there before the first message can come."""
    stream = node.streams.open(node_id, WEBSOCKET, session_id)
    inward = node.tasks.start(f"carry {stream.id}", _write_what_comes(stream, client))
    watch = node.tasks.start(f"watch {stream.id}", _watch(node, client))
    try:
        message: Received | None
        while (message := await client.next()) is not None:
            if isinstance(message, bytes):
                stream.send(message)
    finally:
        stream.end(CLIENT_GONE if client.close_code == CLOSED_ABNORMALLY else client.close_code)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await inward


async def _write_what_comes(stream: Stream, client: ClientSocket) -> None:
    while (message := await stream.next()) is not None:
        client.writer.write(MixedBatch([message]))
    client.writer.close(_close_code(stream.status or INTERRUPTED, stream.reason))


async def _watch(node: Node, client: ClientSocket) -> None:
    loop = asyncio.get_running_loop()
    while not client.writer.is_closing:
        await asyncio.sleep(WATCH_SECONDS)
        if client.writer.is_slow(loop.time()):
            client.writer.close(SLOW_CONSUMER)
            node.instrument.connection_evicted(SLOW_CONSUMER)


def _close_code(status: int, reason: str) -> CloseCode:
    for close in CLOSE_CODES:
        if close.code == status and close.reason == reason:
            return close
    if status == UNKNOWN:
        return POLICY_VIOLATION
    if 1000 <= status < 5000:
        return CloseCode("carried", status, reason, "the session's node said so", True, 0)
    return TRY_AGAIN_LATER


# -- far -------------------------------------------------------------------------------------------------------------


class FarSocket(ClientSocket):
    """A WebSocket that another node has, as the session sees it."""

    def __init__(self, stream: Stream, limit: BacklogLimit) -> None:
        self._stream = stream
        self.writer = CarriedWriter(limit, stream.send, lambda close: stream.end(close.code, close.reason))
        self.close_code = CLOSED_ABNORMALLY

    async def accept(self, subprotocol: str | None = None) -> None:
        """The near side has accepted it."""

    async def deny(self, status: int, *, retry_after_seconds: int | None = None) -> None:
        self._stream.end(status)

    async def next(self) -> Received | None:
        message = await self._stream.next()
        if message is None and self._stream.status is not None and self._stream.status >= 1000:
            self.close_code = self._stream.status
        return message


class FarSide:
    """Answers what other nodes carry here."""

    def __init__(self, node: Node, limit: BacklogLimit, find: Callable[[str], Session | None]) -> None:
        self._node = node
        self._limit = limit
        self._find = find
        node.streams.accept = self.accept

    def accept(self, stream: Stream, kind: str, session_id: str) -> None:
        """A request came. What follows of it waits in the stream until its task takes it."""
        session = self._find(session_id)
        if session is None:
            stream.end(UNKNOWN)
            return
        work = self._websocket if kind == WEBSOCKET else self._post if kind == POST else self._poll
        self._node.tasks.start(f"carried {stream.id}", work(stream, session))

    async def _poll(self, stream: Stream, session: Session) -> None:
        await stream.next()
        polling = asyncio.ensure_future(session.poll())
        gone = asyncio.ensure_future(stream.next())
        try:
            await asyncio.wait({polling, gone}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                _answer(stream, polling.result())
        finally:
            polling.cancel()
            gone.cancel()
            await asyncio.gather(polling, gone, return_exceptions=True)

    async def _post(self, stream: Stream, session: Session) -> None:
        body = await stream.next()
        if body is not None:
            _answer(stream, await session.post(body))

    async def _websocket(self, stream: Stream, session: Session) -> None:
        socket = FarSocket(stream, self._limit)
        is_upgraded = False
        try:
            is_upgraded = await session.upgrade(socket)
            if is_upgraded:
                self._node.instrument.session_opened("upgrade")
                await session.read(socket)
        finally:
            stream.end(POLICY_VIOLATION.code, POLICY_VIOLATION.reason)
            if is_upgraded:
                session.end(socket.close_code)


def _answer(stream: Stream, answer: Answer) -> None:
    stream.send(answer.body)
    stream.end(answer.status)
