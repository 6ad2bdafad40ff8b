"""Socket.IO 5: packets from clients, packets to clients, and our publications in its words. No I/O, no clock.

A packet is its type, the number of its attachments and ``-`` if it has some, its namespace and ``,`` unless that is
``/``, the number of its acknowledgement if one is wanted, and JSON. Its attachments follow as binary messages. The
specification: github.com/socketio/socket.io-protocol. docs/socketio.md has the table of events.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from msgspec import Raw

from realtime.protocol import codec
from realtime.protocol.engineio import MESSAGE
from realtime.protocol.envelope import BroadcastEnvelope, PrivateEnvelope, RoomEnvelope
from realtime.protocol.errors import BadMessage
from realtime.protocol.frames import BinaryMessage
from realtime.protocol.messages import Left, MembersChanged, Missed
from realtime.protocol.names import MAIN_NAMESPACE, split_room

CONNECT: Final = 0
DISCONNECT: Final = 1
EVENT: Final = 2
ACK: Final = 3
CONNECT_ERROR: Final = 4
BINARY_EVENT: Final = 5
BINARY_ACK: Final = 6

ATTACHMENTS_MAX: Final = 256
"""Attachments of one packet; a client that announces more is closed."""
EVENT_NAME_MAX: Final = 128
BASE64_KEY: Final = "$base64"
"""Stands in JSON for bytes: ``{"$base64": "AQID"}``."""

RESERVED: Final = frozenset(
    {"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"}
)

_PACKET = re.compile(
    rb"(?P<kind>[0-6])(?:(?P<attachments>\d{1,9})-)?(?:(?P<namespace>/[^,]*)(?:,|\Z))?(?P<ack>\d{1,15})?(?P<data>.*)",
    re.DOTALL,
)
_arguments = msgspec.json.Decoder(list[Raw])
_text = msgspec.json.Decoder(str)
_auth = msgspec.json.Decoder(dict[str, Any])
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BadPacket(Exception):
    """What came is no packet: the client does not speak Socket.IO, and is closed."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet, its attachments included once they have come."""

    kind: int
    namespace: str
    ack: int | None = None
    data: bytes = b""
    attachment_count: int = 0
    attachments: tuple[bytes, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether all attachments have come."""
        return len(self.attachments) >= self.attachment_count

    @property
    def size(self) -> int:
        """Its bytes, those of its attachments included."""
        return len(self.data) + sum(map(len, self.attachments))

    def with_attachment(self, attachment: bytes) -> Packet:
        """The packet with the next of its attachments."""
        return replace(self, attachments=(*self.attachments, attachment))


def decode_packet(text: bytes) -> Packet:
    """The packet in a text message, without its attachments. Raises BadPacket."""
    match = _PACKET.fullmatch(text)
    if match is None:
        raise BadPacket("no packet type")
    kind = int(match["kind"])
    is_binary = kind in (BINARY_EVENT, BINARY_ACK)
    count = int(match["attachments"] or 0)
    if is_binary != (match["attachments"] is not None) or count > ATTACHMENTS_MAX:
        raise BadPacket("attachments")
    try:
        namespace = (match["namespace"] or b"/").decode("utf-8").partition("?")[0]
    except UnicodeDecodeError:
        raise BadPacket("namespace") from None
    ack = None if match["ack"] is None else int(match["ack"])
    packet = Packet(kind, namespace, ack, match["data"], count)
    _check(packet)
    return packet


def _check(packet: Packet) -> None:
    try:
        if packet.kind in (EVENT, BINARY_EVENT):
            event_of(packet)
        elif packet.kind in (ACK, BINARY_ACK):
            arguments_of(packet)
        elif packet.kind == CONNECT:
            auth_of(packet)
        elif packet.kind == CONNECT_ERROR or packet.data:
            raise BadPacket("type or data")
    except _MALFORMED as error:
        raise BadPacket(str(error)) from None


def auth_of(packet: Packet) -> dict[str, Any]:
    """What a client said when it connected to a namespace."""
    return _auth.decode(packet.data) if packet.data else {}


def arguments_of(packet: Packet) -> list[Raw]:
    """The arguments of an acknowledgement, as JSON."""
    return _arguments.decode(packet.data)


@dataclass(frozen=True, slots=True)
class Event:
    """What a client emitted. ``arguments`` are JSON, with placeholders where ``attachments`` belong."""

    namespace: str
    name: str
    arguments: Sequence[Raw]
    attachments: tuple[bytes, ...]
    ack: int | None

    def text(self, index: int, name: str) -> str:
        """An argument that must be text. Raises BadMessage."""
        try:
            return _text.decode(self._argument(index, name))
        except _MALFORMED:
            raise BadMessage(f"Argument `{name}` must be text.") from None

    def data(self, index: int, name: str) -> tuple[Raw, bool]:
        """An argument as JSON that everybody can read, and whether bytes are in it. Raises BadMessage and BadJson."""
        raw = self._argument(index, name)
        codec.check_data(raw)
        if not self.attachments:
            return raw, False
        return Raw(msgspec.json.encode(_with_base64(_any.decode(raw), self.attachments))), True

    def options(self, index: int) -> dict[str, Any]:
        """An argument that may be missing and is an object otherwise. Raises BadMessage."""
        if index >= len(self.arguments):
            return {}
        try:
            return _auth.decode(self.arguments[index])
        except _MALFORMED:
            raise BadMessage(f"Argument {index + 1} must be an object.") from None

    def values(self) -> list[Any]:
        """All arguments as Python values. Raises BadMessage and BadJson."""
        for raw in self.arguments:
            codec.check_data(raw)
        return [_with_bytes(_any.decode(raw), self.attachments) for raw in self.arguments]

    def _argument(self, index: int, name: str) -> Raw:
        if index >= len(self.arguments):
            raise BadMessage(f"Argument `{name}` is missing.")
        return self.arguments[index]


def event_of(packet: Packet) -> Event:
    """The event in a packet. Raises BadPacket."""
    arguments = arguments_of(packet)
    if not arguments:
        raise BadPacket("an event without a name")
    name = _text.decode(arguments[0])
    if name in RESERVED or len(name) > EVENT_NAME_MAX:
        raise BadPacket("a reserved event")
    return Event(packet.namespace, name, arguments[1:], packet.attachments, packet.ack)


def values_of(packet: Packet) -> list[Any]:
    """The arguments of an acknowledgement as Python values. Raises BadMessage and BadJson."""
    return Event(packet.namespace, "", arguments_of(packet), packet.attachments, None).values()


# -- to clients ------------------------------------------------------------------------------------------------------


def connected(namespace: str, connection_id: str) -> bytes:
    """The client is connected to a namespace."""
    return _head(CONNECT, namespace) + msgspec.json.encode({"sid": connection_id})


def connect_error(namespace: str, message: str, data: object = None) -> bytes:
    """The client may not connect to a namespace, or there is none of this name."""
    fields = {"message": message} if data is None else {"message": message, "data": data}
    return _head(CONNECT_ERROR, namespace) + msgspec.json.encode(fields, enc_hook=str)


def disconnected(namespace: str) -> bytes:
    """The client is no longer connected to a namespace; official clients do not reconnect after that."""
    return _head(DISCONNECT, namespace)


def emitted(namespace: str, name: str, arguments: Sequence[object], ack: int | None = None) -> list[bytes]:
    """An event for a client, with its attachments."""
    return _with_attachments(EVENT, namespace, [name, *arguments], ack)


def acknowledged(namespace: str, ack: int, arguments: Sequence[object]) -> list[bytes]:
    """The answer to an event."""
    return _with_attachments(ACK, namespace, list(arguments), ack)


def _with_attachments(kind: int, namespace: str, arguments: list[object], ack: int | None) -> list[bytes]:
    attachments: list[bytes] = []
    json = msgspec.json.encode(_with_placeholders(arguments, attachments), enc_hook=str)
    number = b"" if ack is None else str(ack).encode()
    if not attachments:
        return [_head(kind, namespace) + number + json]
    head = _head(kind + BINARY_EVENT - EVENT, namespace, len(attachments))
    return [head + number + json, *map(BinaryMessage, attachments)]


def _head(kind: int, namespace: str, attachments: int = 0) -> bytes:
    count = f"{attachments}-" if attachments else ""
    where = "" if namespace == MAIN_NAMESPACE else f"{namespace},"
    return MESSAGE + f"{kind}{count}{where}".encode()


# -- publications and pushes -----------------------------------------------------------------------------------------

Spoken = BroadcastEnvelope | RoomEnvelope | PrivateEnvelope | MembersChanged | Missed | Left
_EVENT_HEAD: Final = MESSAGE + str(EVENT).encode()


def speak(publications: Iterable[Spoken]) -> list[bytes]:
    """Publications, and pushes to many, as events: the dialect of all Socket.IO members, made once for all of them."""
    packets: list[bytes] = []
    for publication in publications:
        if isinstance(publication, MembersChanged):
            namespace, room = split_room(publication.room)
            change = msgspec.structs.replace(publication, room=room)
            packets += emitted(namespace, "members", [_fields(change)])
        elif isinstance(publication, Left):
            namespace, room = split_room(publication.room)
            packets += emitted(namespace, "left", [{"room": room}])
        elif isinstance(publication, Missed):
            packets += emitted(MAIN_NAMESPACE, "missed", [{"rooms": publication.rooms}])
        else:
            packets += _published(publication)
    return packets


def _published(publication: BroadcastEnvelope | RoomEnvelope | PrivateEnvelope) -> list[bytes]:
    namespace, json = MAIN_NAMESPACE, bytes(publication.data)
    head = b'{"user":' + msgspec.json.encode(publication.sender) + b',"message":'
    if isinstance(publication, RoomEnvelope):
        namespace, room = split_room(publication.room)
        name = "message" if room else "broadcast"
        if room:
            head = b'{"room":' + msgspec.json.encode(room) + b"," + head[1:]
    else:
        name = "broadcast" if isinstance(publication, BroadcastEnvelope) else "private"
    if publication.event is None:
        json = head + json + b"}"
    else:
        name = publication.event
    if publication.binary:
        return emitted(namespace, name, [_from_base64(_any.decode(json))])
    where = b"" if namespace == MAIN_NAMESPACE else namespace.encode() + b","
    return [_EVENT_HEAD + where + b"[" + msgspec.json.encode(name) + b"," + json + b"]"]


def _fields(message: msgspec.Struct) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(message)
    fields.pop("type")
    return fields


def as_json(value: object) -> tuple[bytes, bool]:
    """A value as the ``data`` of a publication, and whether bytes are in it."""
    attachments: list[bytes] = []
    _with_placeholders(value, attachments)
    return msgspec.json.encode(_as_base64(value) if attachments else value, enc_hook=str), bool(attachments)


# -- bytes inside values ---------------------------------------------------------------------------------------------


def _with_placeholders(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        attachments.append(bytes(value))
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, dict):
        return {key: _with_placeholders(each, attachments) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_placeholders(each, attachments) for each in value]
    return value


def _with_bytes(value: Any, attachments: Sequence[bytes]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            number = value.get("num")
            if not isinstance(number, int) or not 0 <= number < len(attachments):
                raise BadMessage("A placeholder names no attachment.")
            return bytes(attachments[number])
        return {key: _with_bytes(each, attachments) for key, each in value.items()}
    return [_with_bytes(each, attachments) for each in value] if isinstance(value, list) else value


def _with_base64(value: Any, attachments: Sequence[bytes]) -> Any:
    return _as_base64(_with_bytes(value, attachments))


def _as_base64(value: Any) -> Any:
    if isinstance(value, bytes):
        return {BASE64_KEY: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _as_base64(each) for key, each in value.items()}
    return [_as_base64(each) for each in value] if isinstance(value, list) else value


def _from_base64(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {BASE64_KEY} and isinstance(value[BASE64_KEY], str):
            try:
                return base64.b64decode(value[BASE64_KEY], validate=True)
            except binascii.Error:
                return value
        return {key: _from_base64(each) for key, each in value.items()}
    return [_from_base64(each) for each in value] if isinstance(value, list) else value
