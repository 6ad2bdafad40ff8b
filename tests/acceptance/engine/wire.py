"""Many clients in one thread: sockets that never block, moved by `pump`, and everything that came, byte for byte."""

from __future__ import annotations

import json
import secrets
import select
import time
from collections.abc import Callable, Iterable

from websockets.frames import Frame, Opcode

from tests.acceptance.engine.peer import DEADLINE_SECONDS, FrameParser, Message, Peer, command

READ_BYTES = 1 << 18


class Wire:
    """A peer after its handshake. What it shall send waits in `unsent`; `raw` is all that came, `frames` the same,
    `texts` the text messages among them."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.socket = peer.socket
        self.socket.setblocking(False)
        self.unsent = bytearray()
        self.raw = bytearray()
        self.frames: list[Frame] = []
        self.texts: list[bytes] = []
        self.appetite: int | None = None  # bytes that it will still read; None: all that comes
        self.has_ended = False
        self.on_read: Callable[[bytes], None] | None = None
        self.is_lazy = False  # bytes are collected only, until `parse`
        self._parsed = 0
        self._parser = FrameParser()

    def send(self, *frames: bytes) -> None:
        """Leave that to `pump`."""
        self.unsent += b"".join(frames)

    @property
    def is_closed(self) -> bool:
        """Whether a close frame came last, or the connection has ended."""
        return self.has_ended or (self.frames != [] and self.frames[-1].opcode is Opcode.CLOSE)

    def messages(self, *types: str) -> list[Message]:
        """Every message of these types."""
        decoded: Iterable[Message] = map(json.loads, self.texts)
        return [message for message in decoded if message["type"] in types]

    def assert_whole(self) -> None:
        """Every byte that came belongs to one whole frame, in its shortest form; nothing is between two frames."""
        assert self._parser.is_between_frames, f"it ends within a frame: {bytes(self.raw[-100:])!r}"
        assert b"".join(each.serialize(mask=False) for each in self.frames) == self.raw

    def push(self) -> None:
        sent = self.socket.send(memoryview(self.unsent)[:READ_BYTES])
        del self.unsent[:sent]

    def pull(self) -> None:
        try:
            data = self.socket.recv(READ_BYTES if self.appetite is None else min(READ_BYTES, self.appetite))
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.has_ended = True
            return
        if self.appetite is not None:
            self.appetite -= len(data)
        if self.on_read is not None:
            self.on_read(data)
        self.raw += data
        if not self.is_lazy:
            self.parse()

    def forget(self) -> None:
        """Let go of everything that came."""
        self.raw.clear()
        self.frames.clear()
        self.texts.clear()
        self._parsed = 0

    def parse(self) -> None:
        """Turn what came into `frames` and `texts`."""
        self._parser.feed(bytes(self.raw[self._parsed :]))
        self._parsed = len(self.raw)
        self.frames += self._parser.frames
        self.texts += [bytes(each.data) for each in self._parser.frames if each.opcode is Opcode.TEXT]
        self._parser.frames.clear()


def pump(wires: Iterable[Wire], until: Callable[[], bool], what: str, within: float = DEADLINE_SECONDS) -> None:
    """Send and read on all of them until something holds."""
    wires = list(wires)
    deadline = time.monotonic() + within
    while not until():
        assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
        turn(wires)


def pump_for(wires: Iterable[Wire], seconds: float) -> None:
    """Send and read on all of them for that long."""
    end = time.monotonic() + seconds
    pump(wires, lambda: time.monotonic() >= end, "some time", seconds + DEADLINE_SECONDS)


def ping(wire: Wire, others: Iterable[Wire] = (), within: float = DEADLINE_SECONDS) -> float:
    """Ask the node something and wait for the answer; the seconds that it took. What was sent before is handled."""
    ref = secrets.token_hex(8)
    answer = b'{"type":"pong","ref":"%s"}' % ref.encode()
    wire.send(command("ping", ref=ref))
    began = time.monotonic()
    seen = len(wire.texts)
    pump([wire, *others], lambda: answer in wire.texts[seen:], "an answer", within)
    return time.monotonic() - began


def turn(wires: Iterable[Wire], timeout: float = 0.01) -> None:
    """Whatever can be sent or read at the moment; waits for something a moment."""
    open_wires = {wire.socket.fileno(): wire for wire in wires if not wire.has_ended}
    waiting = select.poll()
    for number, wire in open_wires.items():
        events = (select.POLLIN if wire.appetite != 0 else 0) | (select.POLLOUT if wire.unsent else 0)
        if events:
            waiting.register(number, events)
    for number, events in waiting.poll(timeout * 1000):
        wire = open_wires[number]
        try:
            if events & select.POLLOUT and wire.unsent:
                wire.push()
        except (ConnectionResetError, BrokenPipeError):
            wire.unsent.clear()
        if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and wire.appetite != 0:
            wire.pull()
