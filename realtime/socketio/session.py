"""One Engine.IO session: what its transports bring goes to a ``Speaker``, what that says leaves over them.

Polling: a poll waits until there is something to say; two at once end the session. Upgrade: a WebSocket of the same
session asks ``2probe``, is told ``3probe``, and from its ``5`` on carries everything; polls end with ``6`` meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from realtime.limits import BacklogLimit
from realtime.protocol import engineio
from realtime.protocol.closing import POLICY_VIOLATION, SLOW_CONSUMER, TOO_BIG, CloseCode
from realtime.protocol.engineio import Refusal
from realtime.protocol.frames import BinaryMessage, FrameBatch, MixedBatch
from realtime.rates import Source
from realtime.server.socket import CLOSED_ABNORMALLY, ClientSocket, Received
from realtime.server.writer import FrameWriter, nobody
from realtime.socketio.writer import SessionWriter

UPGRADE_SECONDS = 10.0
"""From the WebSocket of an upgrade to its last step."""
GOING_AWAY = 1001
"""The close code of a client that says goodbye."""
NORMAL = 1000


class Speaker(Protocol):
    """Who talks with the client over a session."""

    async def receive(self, message: bytes) -> None:
        """A message of the client, text or ``BinaryMessage``."""

    async def session_opened(self) -> None:
        """The first packet has been written."""

    def pong_came(self, *, is_asked: bool) -> None:
        """The client has answered a ping, or has sent an answer that nobody asked for."""

    def session_ended(self, code: int) -> None:
        """The session is over, with this close code. Called once."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response."""

    status: int
    body: bytes


OK = Answer(200, b"ok")


def refused(refusal: Refusal) -> Answer:
    """The answer to a request that is no good."""
    return Answer(refusal.status, refusal.body)


class Session:
    """``heard`` is called for each pong and says whether there was a ping; ``forget`` when the session is over."""

    def __init__(
        self,
        session_id: str,
        limit: BacklogLimit,
        *,
        heard: Callable[[Session], bool],
        forget: Callable[[Session], None],
        linger: Callable[[Session], None],
    ) -> None:
        self.id = session_id
        self.writer = SessionWriter(limit)
        self.writer.on_waiting = self._wake
        self.writer.on_close = self._closing
        self.speaker: Speaker | None = None
        self.source: Source | None = None
        """The address that the client counts for."""
        self.on_held_back: Callable[[], None] = nobody
        """Called when the WebSocket of the client is not read any more because too much of it waits."""
        self.is_over = False
        self.is_busy = False
        """Whether a message is being handled: a pong may wait behind it."""
        self._heard = heard
        self._forget = forget
        self._linger = linger
        self._poll: asyncio.Future[bytes | None] | None = None
        self._is_posting = False
        self._socket: ClientSocket | None = None
        self._is_probed = False
        self._close: CloseCode | None = None

    @property
    def may_upgrade(self) -> bool:
        """Whether a WebSocket may take the session over."""
        return not (self.is_over or self._close or self._socket or self.writer.is_on_websocket)

    # -- HTTP --------------------------------------------------------------------------------------------------------

    async def poll(self) -> Answer:
        """What the client is told next. Waits for it; cancelled, the client is gone."""
        if self.is_over or self.writer.is_on_websocket:
            return refused(Refusal.BAD_REQUEST)
        if self._poll is not None:
            self.end(POLICY_VIOLATION.code)
            return refused(Refusal.BAD_REQUEST)
        body: bytes | None = None
        if self._close is None and not self.writer.has_waiting:
            body = await self._next_poll()
        return Answer(200, self._take() if body is None else body)

    async def _next_poll(self) -> bytes | None:
        if self._is_probed:
            return engineio.NOOP
        self._poll = asyncio.get_running_loop().create_future()
        try:
            return await self._poll
        except asyncio.CancelledError:
            self.end(CLOSED_ABNORMALLY)
            raise
        finally:
            self._poll = None

    def _take(self) -> bytes:
        if self.is_over:
            return engineio.CLOSE
        packets = self.writer.take()
        if self._close is not None:
            packets.append(engineio.CLOSE)
            self.end(self._close.code)
        return engineio.encode_payload(packets)

    async def post(self, body: bytes) -> Answer:
        """What the client says."""
        if self.is_over or self._close or self.writer.is_on_websocket:
            return refused(Refusal.BAD_REQUEST)
        if self._is_posting:
            self.writer.close(POLICY_VIOLATION)
            return refused(Refusal.BAD_REQUEST)
        self._is_posting = True
        try:
            for packet in engineio.decode_payload(body):
                await self.receive(packet)
                if self._close is not None:
                    return refused(Refusal.BAD_REQUEST)
        except engineio.BadPayload:
            self.refuse()
            return refused(Refusal.BAD_REQUEST)
        finally:
            self._is_posting = False
        return OK

    def _wake(self) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(None)

    def _answer_poll(self, body: bytes) -> None:
        if self._poll is not None and not self._poll.done():
            self._poll.set_result(body)

    # -- WebSocket ---------------------------------------------------------------------------------------------------

    async def serve(self, socket: ClientSocket) -> None:
        """The session lives on this WebSocket, until that ends."""
        self._socket = socket
        socket.on_held_back = self.on_held_back
        self.writer.move_to(socket.writer)
        await self.read(socket)

    async def upgrade(self, socket: ClientSocket) -> bool:
        """Change to this WebSocket; False when the client did not do its part."""
        if not self.may_upgrade:
            socket.writer.close(POLICY_VIOLATION)
            return False
        self._socket = socket
        is_upgraded = False
        try:
            async with asyncio.timeout(UPGRADE_SECONDS):
                is_upgraded = await self._is_asked_to_upgrade(socket)
        except TimeoutError:
            pass
        finally:
            self._is_probed = False
            if not is_upgraded:
                self._socket = None
        if not is_upgraded or self.is_over or self._close is not None:
            socket.writer.close(POLICY_VIOLATION)
            return False
        if self._is_posting:  # two would be heard at once; clients wait for the answer to what they posted
            self.refuse()
            return False
        self._answer_poll(engineio.NOOP)
        socket.on_held_back = self.on_held_back
        self.writer.move_to(socket.writer)
        return True

    async def _is_asked_to_upgrade(self, socket: ClientSocket) -> bool:
        if await socket.next() != engineio.PROBE:
            return False
        socket.writer.write(MixedBatch([engineio.PROBE_ANSWER]))
        self._is_probed = True
        self._answer_poll(engineio.NOOP)
        return await socket.next() == engineio.UPGRADE

    async def read(self, socket: ClientSocket) -> None:
        """Hand over what comes from a WebSocket that carries the session, until it ends."""
        message: Received | None
        while (message := await socket.next()) is not None:
            if isinstance(message, bytes):
                await self.receive(message)
        self.end(socket.close_code if self._close is None else self._close.code)

    # -- packets -----------------------------------------------------------------------------------------------------

    async def receive(self, packet: bytes) -> None:
        """One packet of the client."""
        if self.is_over or self._close is not None:
            return
        kind = packet[:1]
        if isinstance(packet, BinaryMessage):
            await self._hand_over(packet)
        elif kind == engineio.MESSAGE:
            await self._hand_over(packet[1:])
        elif packet == engineio.PONG:
            is_asked = self._heard(self)
            if self.speaker is not None:
                self.speaker.pong_came(is_asked=is_asked)
        elif packet == engineio.CLOSE:
            self._answer_poll(engineio.NOOP)
            self._close_socket(NORMAL)
            self.end(GOING_AWAY)
        else:
            self.refuse()

    async def _hand_over(self, message: bytes) -> None:
        if self.speaker is None:
            return
        self.is_busy = True
        try:
            await self.speaker.receive(message)
        finally:
            self.is_busy = False

    # -- the end -----------------------------------------------------------------------------------------------------

    def refuse(self, close: CloseCode = POLICY_VIOLATION) -> None:
        """The client does not speak the protocol."""
        self.writer.close(close)

    def _closing(self, close: CloseCode) -> None:
        """The server ends it. A poll takes what waits with it; a client between two polls gets a moment."""
        self._close = close
        if self.writer.is_on_websocket:
            return
        if self._socket is not None:
            self._socket.writer.close(close)
        if close is SLOW_CONSUMER:
            self.writer.take()
        if self._poll is None and close not in (POLICY_VIOLATION, TOO_BIG):
            self._linger(self)
        elif self._poll is None:
            self.end(close.code)
        else:
            self._wake()

    def _close_socket(self, code: int) -> None:
        if self._socket is not None:
            self._socket.writer.close(CloseCode("normal", code, "", "the client said goodbye", True, 0))

    def end(self, code: int) -> None:
        """It is over. Safe to call twice."""
        if self.is_over:
            return
        self.is_over = True
        self._wake()
        self._forget(self)
        if self.speaker is not None:
            self.speaker.session_ended(code)
        self.writer.cut()


class CarriedWriter(FrameWriter):
    """Writes over a stream to the node that has the client's WebSocket; what waits for the client waits there."""

    __slots__ = ("_end", "_send")

    def __init__(self, limit: BacklogLimit, send: Callable[[bytes], None], end: Callable[[CloseCode], None]) -> None:
        super().__init__(limit)
        self._send = send
        self._end = end

    @property
    def backlog(self) -> int:
        return 0

    def write(self, batch: FrameBatch) -> None:
        for message in batch.texts:
            self._send(message)
        self.tally += batch.tally

    def close(self, close: CloseCode) -> None:
        if not self.is_closing:
            self.is_closing = True
            self._end(close)
