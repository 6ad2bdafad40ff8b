"""Engine.IO 4, what Socket.IO travels on: packets, payloads, requests and deadlines. Decisions only; no I/O, no clock.

A packet is its type, one character, and its data. On a WebSocket it is one message; a binary message has no type. In
HTTP bodies packets are separated by ``SEPARATOR``, and a binary one is ``b`` with its base64. The specification:
github.com/socketio/engine.io-protocol.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final, Generic, TypeVar
from urllib.parse import parse_qs

import msgspec

from realtime.protocol.frames import BinaryMessage

OPEN: Final = b"0"
CLOSE: Final = b"1"
PING: Final = b"2"
PONG: Final = b"3"
MESSAGE: Final = b"4"
UPGRADE: Final = b"5"
NOOP: Final = b"6"
PROBE: Final = b"2probe"
PROBE_ANSWER: Final = b"3probe"

SEPARATOR: Final = b"\x1e"
VERSION: Final = "4"


class Transport(StrEnum):
    """How packets travel."""

    POLLING = "polling"
    WEBSOCKET = "websocket"


class Refusal(Enum):
    """Why a request is refused: the number and the words that Engine.IO gives it, and the HTTP status."""

    UNKNOWN_TRANSPORT = (0, "Transport unknown", 400)
    UNKNOWN_SESSION = (1, "Session ID unknown", 400)
    BAD_METHOD = (2, "Bad handshake method", 400)
    BAD_REQUEST = (3, "Bad request", 400)
    FORBIDDEN = (4, "Forbidden", 403)
    UNSUPPORTED_VERSION = (5, "Unsupported protocol version", 400)
    TOO_LARGE = (3, "Payload too large", 413)
    UNAVAILABLE = (3, "Try again later", 503)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.value[2]

    @property
    def body(self) -> bytes:
        """The HTTP body."""
        return msgspec.json.encode({"code": self.value[0], "message": self.value[1]})


class Refused(Exception):
    """A request that is no good."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.value[1])
        self.refusal = refusal


class BadPayload(Exception):
    """A body that no packets can be read from."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the query says. Without ``session`` it opens one."""

    transport: Transport
    session: str | None


def read_query(query: bytes) -> Request:
    """What a request wants. Raises Refused."""
    fields = parse_qs(query.decode("latin1"))
    if fields.get("EIO") != [VERSION]:
        raise Refused(Refusal.UNSUPPORTED_VERSION)
    try:
        transport = Transport(fields.get("transport", [""])[-1])
    except ValueError:
        raise Refused(Refusal.UNKNOWN_TRANSPORT) from None
    return Request(transport, fields.get("sid", [None])[-1])


class _Handshake(msgspec.Struct, frozen=True):
    sid: str
    upgrades: list[str]
    pingInterval: int
    pingTimeout: int
    maxPayload: int


def open_packet(
    session: str,
    transport: Transport,
    *,
    ping_interval_seconds: float,
    ping_timeout_seconds: float,
    max_payload_bytes: int,
) -> bytes:
    """The first packet of a session."""
    return OPEN + msgspec.json.encode(
        _Handshake(
            sid=session,
            upgrades=[Transport.WEBSOCKET] if transport is Transport.POLLING else [],
            pingInterval=round(ping_interval_seconds * 1000),
            pingTimeout=round(ping_timeout_seconds * 1000),
            maxPayload=max_payload_bytes,
        )
    )


def encode_payload(packets: Iterable[bytes]) -> bytes:
    """Packets as an HTTP body."""
    return SEPARATOR.join(
        b"b" + base64.b64encode(packet) if isinstance(packet, BinaryMessage) else packet for packet in packets
    )


def decode_payload(body: bytes) -> list[bytes]:
    """The packets in an HTTP body. Raises BadPayload."""
    try:
        body.decode("utf-8")
        return [
            BinaryMessage(base64.b64decode(packet[1:], validate=True)) if packet[:1] == b"b" else packet
            for packet in body.split(SEPARATOR)
        ]
    except (UnicodeDecodeError, binascii.Error) as error:
        raise BadPayload(str(error)) from None


Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """Who must do something within the same time each. The oldest is due first, so that nobody has a timer."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._due: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, key: Key) -> bool:
        return key in self._due

    def start(self, key: Key, now: float) -> None:
        """Begin the time of ``key``, anew if it runs."""
        self._due.pop(key, None)
        self._due[key] = now + self.seconds

    def stop(self, key: Key) -> bool:
        """It has done it; whether its time was running."""
        return self._due.pop(key, None) is not None

    def expired(self, now: float) -> list[Key]:
        """Whose time is over: they are no longer waited for."""
        late = []
        for key, due in self._due.items():
            if due > now:
                break
            late.append(key)
        for key in late:
            del self._due[key]
        return late
