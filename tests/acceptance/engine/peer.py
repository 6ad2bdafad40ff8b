"""A WebSocket client that does exactly what a test tells it, right or wrong, and nothing by itself.

It writes frames by hand, so that it can write broken ones; what comes is parsed by the `websockets` library, which
knows nothing of our code. Every wait has a deadline.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader

Message = dict[str, Any]

DEADLINE_SECONDS = 10.0  # for what takes milliseconds on an idle machine
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class Refused(Exception):
    """The handshake was answered with something else than 101: the status, headers in lower case, and the body."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body


class Ended(AssertionError):
    """The TCP connection ended where a frame was waited for."""


def head(opcode: int, length: int, *, fin: bool = True, rsv: int = 0, is_masked: bool = True) -> bytes:
    """The beginning of a frame that says to be of this length, without its mask and payload."""
    first, masked = fin << 7 | rsv << 4 | opcode, is_masked << 7
    if length < 126:
        return struct.pack("!BB", first, masked | length)
    if length < 65_536:
        return struct.pack("!BBH", first, masked | 126, length)
    return struct.pack("!BBQ", first, masked | 127, length)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes | None = None) -> bytes:
    """One masked frame, whether it is allowed or not."""
    mask = os.urandom(4) if mask is None else mask
    length = len(payload)
    key = mask * (length // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(key[:length], "big")
    return head(opcode, length, fin=fin, rsv=rsv) + mask + masked.to_bytes(length, "big")


def text(payload: str | bytes) -> bytes:
    return frame(TEXT, payload.encode() if isinstance(payload, str) else payload)


def command(type: str, **fields: Any) -> bytes:
    """A command of our protocol in its frame."""
    return text(json.dumps({"type": type, **fields}, separators=(",", ":")))


def close(code: int = 1000, reason: str | bytes = "") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + (reason.encode() if isinstance(reason, str) else reason))


class FrameParser:
    """Frames out of bytes as they come."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self._stream = StreamReader()
        self._parser = self._parse()
        next(self._parser)

    def feed(self, data: bytes) -> None:
        self._stream.feed_data(data)
        next(self._parser)

    @property
    def is_between_frames(self) -> bool:
        """Whether what came ends with a whole frame."""
        return not self._stream.buffer and self._is_at_start

    def _parse(self) -> Generator[None]:
        while True:
            self._is_at_start = True
            yield from self._parse_one()

    def _read_exact(self, count: int) -> Generator[None, None, bytes | bytearray]:
        data = yield from self._stream.read_exact(count)
        self._is_at_start = False
        return data

    def _parse_one(self) -> Generator[None]:
        parsed = yield from Frame.parse(self._read_exact, mask=False)
        parsed.data = bytes(parsed.data)
        self.frames.append(parsed)


class Peer:
    """One client on a blocking socket."""

    def __init__(
        self,
        port: int,
        path: str = "/ws/",
        *,
        receive_buffer: int | None = None,
        source: str | None = None,
        tls: ssl.SSLContext | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        plain = socket.socket()
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            plain.bind((source, 0))
        plain.settimeout(DEADLINE_SECONDS)
        plain.connect(("127.0.0.1", port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        self.parser = FrameParser()
        self.welcome: Message = {}
        try:
            self._shake_hands(port, path, headers or {})
            if path.partition("?")[0] in ("/ws", "/ws/"):
                self.welcome = self.expect("welcome")
        except BaseException:
            self.socket.close()
            raise

    @property
    def id(self) -> str:
        return str(self.welcome["id"])

    # What it sends

    def send(self, *frames: bytes) -> Self:
        """Some bytes, in one call."""
        self.socket.sendall(b"".join(frames))
        return self

    def ask(self, type: str, **fields: Any) -> Message:
        """Send a command with a `ref` and wait for its reply; pushes on the way are dropped."""
        self.send(command(type, ref="asked", **fields))
        return self.until(lambda message: message.get("ref") == "asked")

    def do(self, type: str, **fields: Any) -> Message:
        """The same for a command that must succeed."""
        reply = self.ask(type, **fields)
        assert reply["type"] != "error", reply
        return reply

    # What it gets

    def frame(self, within: float = DEADLINE_SECONDS) -> Frame:
        """The next frame. Raises Ended."""
        deadline = time.monotonic() + within
        while not self.parser.frames:
            left = deadline - time.monotonic()
            assert left > 0, f"no frame within {within:g} s"
            data = self.receive(left)
            if not data:
                raise Ended
            self.parser.feed(data)
        return self.parser.frames.popleft()

    def receive(self, within: float = DEADLINE_SECONDS) -> bytes:
        """Whatever comes next; nothing at the end of the connection, however it ended."""
        self.socket.settimeout(within)
        try:
            return self.socket.recv(1 << 16)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            return b""

    def payload(self, opcode: int = TEXT, within: float = DEADLINE_SECONDS) -> bytes:
        """The payload of the next frame, which must be whole and of this kind."""
        came = self.frame(within)
        assert (came.opcode, came.fin) == (opcode, True), came
        return bytes(came.data)

    def message(self, within: float = DEADLINE_SECONDS) -> Message:
        """The next message of our protocol; control frames on the way are dropped."""
        while (came := self.frame(within)).opcode in (Opcode.PING, Opcode.PONG):
            pass
        assert (came.opcode, came.fin) == (TEXT, True), came
        decoded: Message = json.loads(bytes(came.data))
        return decoded

    def expect(self, type: str, **fields: Any) -> Message:
        """The next message, which must be this one at least."""
        message = self.message()
        wanted = {"type": type, **fields}
        assert wanted.items() <= message.items(), f"{message!r:.300} instead of {wanted}"
        return message

    def until(self, matches: Callable[[Message], bool]) -> Message:
        """The next message that matches."""
        while not matches(message := self.message()):
            pass
        return message

    # The end

    def closed(self, within: float = DEADLINE_SECONDS) -> tuple[int, str]:
        """The next frame must be a close frame: its code and reason (1005: it has none)."""
        came = self.frame(within)
        assert came.opcode is Opcode.CLOSE, came
        parsed = Close.parse(bytes(came.data))
        return int(parsed.code), parsed.reason

    def rest(self, within: float = DEADLINE_SECONDS) -> list[Frame]:
        """Every frame until the TCP connection ends."""
        frames = []
        while True:
            try:
                frames.append(self.frame(within))
            except Ended:
                return frames

    def leave(self) -> None:
        """Close properly."""
        self.send(close())
        self.rest()
        self.socket.close()

    def abort(self) -> None:
        """Cut the connection without a word."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _shake_hands(self, port: int, path: str, headers: dict[str, str]) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        given = {
            "Host": f"127.0.0.1:{port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            **headers,
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self.receive()
            assert data, f"the connection ended in the handshake: {answer!r}"
            answer += data
        head, _, rest = answer.partition(b"\r\n\r\n")
        status_line, *header_lines = head.decode("latin1").split("\r\n")
        status = int(status_line.split()[1])
        if status != 101:
            while data := self.receive():
                rest += data
            pairs = (line.partition(":") for line in header_lines)
            raise Refused(status, {name.lower(): value.strip() for name, _, value in pairs}, rest)
        self.parser.feed(rest)
