"""uvicorn: how much of one client is parsed before others get their turn, without sockets."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from realtime.server.uvicorn_protocol import SLICE_BYTES, TURN_BYTES, RealtimeProtocol
from tests.acceptance.engine.peer import BINARY, CONTINUATION, frame, head

KIB = 1024
READ_BYTES = 256 * KIB  # what loops read at once
HANDSHAKE = (
    b"GET /ws/ HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Wire(asyncio.Transport):
    """A transport without a socket: reads are what the test feeds while nobody has paused it."""

    is_paused = False

    def write(self, data: Any) -> None:
        """Nobody looks at it."""

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """The test ends it."""


class Parsed:
    """A protocol after its handshake; what its parser was given, by turn of the loop."""

    def __init__(self, protocol: RealtimeProtocol, wire: Wire) -> None:
        self.protocol = protocol
        self.wire = wire
        self.turns: list[list[int]] = []
        self.messages: list[bytes] = []
        parse = protocol.conn.receive_data

        def noted(data: bytes | bytearray) -> None:
            self.turns[-1].append(len(data))
            parse(data)

        protocol.conn.receive_data = noted  # type: ignore[method-assign]

    async def feed(self, data: bytes) -> None:
        """As a loop does: in reads, none while it is paused."""
        reads = deque(data[start : start + READ_BYTES] for start in range(0, len(data), READ_BYTES))
        while reads or self.wire.is_paused:
            self.turns.append([])
            if not self.wire.is_paused:
                self.protocol.data_received(reads.popleft())
            await asyncio.sleep(0)


@pytest.fixture
async def parsed() -> AsyncIterator[Parsed]:
    messages: list[bytes] = []
    has_begun = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        has_begun.set()
        while (message := await receive())["type"] == "websocket.receive":
            messages.append(message.get("bytes"))

    config = Config(application, ws_max_size=1 << 20, ws_per_message_deflate=False, log_config=None)
    config.load()
    protocol, wire = RealtimeProtocol(config=config, server_state=ServerState(), app_state={}), Wire()
    protocol.connection_made(wire)
    protocol.data_received(HANDSHAKE)
    await has_begun.wait()
    subject = Parsed(protocol, wire)
    subject.messages = messages
    yield subject
    protocol.connection_lost(None)
    await asyncio.gather(*protocol.tasks)


@pytest.mark.parametrize("pieces", [1, 16], ids=["one frame", "sixteen frames"])
async def test_a_large_message_takes_turns(parsed: Parsed, pieces: int) -> None:
    """Of a mebibyte no turn parses more than TURN_BYTES and the rest of one frame; the inside of frames is not cut."""
    piece = bytes(range(256)) * (KIB // pieces * 4)
    frames = [frame(CONTINUATION if number else BINARY, piece, fin=False) for number in range(pieces)]
    await parsed.feed(b"".join([*frames, frame(CONTINUATION, b"")]))
    while not parsed.messages:
        await asyncio.sleep(0)
    assert parsed.messages == [piece * pieces]
    assert max(sum(turn) for turn in parsed.turns) < TURN_BYTES + SLICE_BYTES + min(len(piece), READ_BYTES)
    assert sum(len(turn) for turn in parsed.turns) < 4 * max(pieces, len(piece) // READ_BYTES)


async def test_small_frames_are_cut_small(parsed: Parsed) -> None:
    """Where frames begin and end the parser is given no more than SLICE_BYTES at once."""
    await parsed.feed(frame(BINARY, b"x" * 100) * 300)
    while len(parsed.messages) < 300:
        await asyncio.sleep(0)
    assert max(size for turn in parsed.turns for size in turn) <= SLICE_BYTES


async def test_what_is_thrown_away_is_read_slowly(parsed: Parsed) -> None:
    """Who goes on with a message that was refused is not read in every turn of the loop; but he is read."""
    parsed.turns.append([])
    parsed.protocol.data_received(head(BINARY, 1 << 62) + bytes(READ_BYTES))
    for _ in range(10):
        assert parsed.wire.is_paused
        await asyncio.sleep(0)
    while parsed.wire.is_paused:
        await asyncio.sleep(0)
    parsed.protocol.data_received(bytes(READ_BYTES))
    assert parsed.wire.is_paused
    assert sum(parsed.turns[0]) <= SLICE_BYTES
