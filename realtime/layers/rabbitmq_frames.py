"""AMQP 0-9-1 as bytes, without I/O: what is published and what is delivered, by hand; everything else by pamqp.

A delivery is three frames or more: a method, a header with properties, and the body in pieces.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

from pamqp import base, commands, frame, header

METHOD, HEADER, BODY, HEARTBEAT, END = 1, 2, 3, 8, 0xCE
DELIVER, RETURN, ACK, NACK = 0x003C003C, 0x003C0032, 0x003C0050, 0x003C0078
FRAME_BYTES = 131_072  # the largest frame, the same as RabbitMQ's own default
BODY_BYTES = FRAME_BYTES - 8

_FRAME = struct.Struct(">BHI")
_INDEX = struct.Struct(">I")
_LONG = struct.Struct(">Q")
_TAG = struct.Struct(">QB")
_CONTENT = struct.Struct(">HHQ")

# Properties of what we publish: delivery mode 1, not written to disk; the second with a message id before its text.
_TRANSIENT = b"\x10\x00\x01"
_TRANSIENT_WITH_ID = b"\x10\x80\x01"


class BrokenFrame(ConnectionError):
    """What came is not AMQP."""


class Content:
    """A message on its way in. `method` is DELIVER or RETURN, `key` its routing key, `tag` that of the delivery."""

    __slots__ = ("_left", "_parts", "channel", "key", "method", "properties", "tag")

    def __init__(self, channel: int, method: int, key: bytes, tag: int) -> None:
        self.channel = channel
        self.method = method
        self.key = key
        self.tag = tag
        self.properties = b""  # flags and values, as they came
        self._left = 0  # bytes of the body that are still to come
        self._parts: list[bytes] = []

    @property
    def body(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def headed(self, size: int, properties: bytes) -> bool:
        """Its header came. Whether it is complete."""
        self._left = size
        self.properties = properties
        return size == 0

    def continued(self, part: bytes) -> bool:
        """A piece of its body came. Whether it is complete."""
        self._parts.append(part)
        self._left -= len(part)
        return self._left <= 0

    def decoded_properties(self) -> commands.Basic.Properties:
        """Its properties, decoded by pamqp; not on the hot path."""
        decoded = header.ContentHeader()
        decoded.unmarshal(_CONTENT.pack(60, 0, 0) + self.properties)
        return decoded.properties


class Confirm:
    """The broker's word about one publication, or about all up to it."""

    __slots__ = ("is_multiple", "is_taken", "tag")

    def __init__(self, tag: int, *, is_multiple: bool, is_taken: bool) -> None:
        self.tag = tag
        self.is_multiple = is_multiple
        self.is_taken = is_taken


class Said:
    """Any other method, on its channel."""

    __slots__ = ("channel", "method")

    def __init__(self, channel: int, method: base.Frame) -> None:
        self.channel = channel
        self.method = method

    def __repr__(self) -> str:
        return f"{self.method.name} on channel {self.channel}"


Reply = Content | Confirm | Said


class FrameReader:
    """Bytes in, in pieces of any size; what is complete out. A heartbeat is nothing."""

    def __init__(self) -> None:
        self._rest = b""
        self._contents: dict[int, Content] = {}  # by channel, incomplete

    def feed(self, data: bytes) -> list[Reply]:
        if self._rest:
            data = self._rest + data
        replies: list[Reply] = []
        position, end = 0, len(data)
        unpack = _FRAME.unpack_from
        while end - position >= 8:
            kind, channel, size = unpack(data, position)
            stop = position + 7 + size
            if stop >= end:
                if size > FRAME_BYTES:
                    raise BrokenFrame("a frame is larger than agreed, or this is no AMQP server")
                break
            if data[stop] != END:
                raise BrokenFrame("a frame has no end, or this is no AMQP server")
            start = position + 7
            position = stop + 1
            if kind == BODY:
                content = self._contents[channel]
                if content.continued(data[start:stop]):
                    replies.append(content)
            elif kind == HEADER:
                content = self._contents[channel]
                if content.headed(_LONG.unpack_from(data, start + 4)[0], data[start + 12 : stop]):
                    replies.append(content)
            elif kind == METHOD:
                self._method(data, channel, start, stop, replies)
        self._rest = data[position:]
        return replies

    def _method(self, data: bytes, channel: int, start: int, stop: int, replies: list[Reply]) -> None:
        index = _INDEX.unpack_from(data, start)[0]
        if index == DELIVER:
            at = start + 5 + data[start + 4]  # behind the consumer tag
            tag = _LONG.unpack_from(data, at)[0]
            self._contents[channel] = Content(channel, DELIVER, _routing_key(data, at + 9), tag)
        elif index in (ACK, NACK):
            tag, bits = _TAG.unpack_from(data, start + 4)
            replies.append(Confirm(tag, is_multiple=bool(bits & 1), is_taken=index == ACK))
        elif index == RETURN:
            at = start + 7 + data[start + 6]  # behind reply code and reply text
            self._contents[channel] = Content(channel, RETURN, _routing_key(data, at), 0)
        else:
            replies.append(Said(channel, _decode(data[start - 7 : stop + 1])))


def _routing_key(data: bytes, at: int) -> bytes:
    """The short string behind the one at `at`, which is the exchange."""
    at += 1 + data[at]
    return data[at + 1 : at + 1 + data[at]]


def _decode(data: bytes) -> base.Frame:
    try:
        _, _, method = frame.unmarshal(data)
    except Exception as error:  # pamqp has several, for what is no frame
        raise BrokenFrame(str(error)) from error
    if not isinstance(method, base.Frame):
        raise BrokenFrame(f"{method!r} is no method")
    return method


def method_frame(channel: int, method: base.Frame) -> bytes:
    return frame.marshal(method, channel)


def method_frames(channel: int, methods: Collection[base.Frame]) -> bytes:
    return b"".join(frame.marshal(method, channel) for method in methods)


def publish_header(channel: int, exchange: bytes, key: bytes, *, is_answered: bool) -> bytes:
    """The constant beginning of a publication: method frame, and what of the header frame comes before its size.

    With `is_answered` the broker returns what it could route to nobody (`mandatory`); see `publication`.
    """
    arguments = b"\x00\x3c\x00\x28\x00\x00%b%b%b" % (_short(exchange), _short(key), b"\x01" if is_answered else b"\x00")
    return _FRAME.pack(METHOD, channel, len(arguments)) + arguments + b"\xce"


def publication(head: bytes, channel: int, payload: bytes, number: int) -> bytes:
    """All frames of a publication; `head` from `publish_header`. One that is answered has its number as message id."""
    size = len(payload)
    properties = _TRANSIENT
    if head[-2]:  # the `mandatory` bit
        digits = b"%d" % number
        properties = b"%b%c%b" % (_TRANSIENT_WITH_ID, len(digits), digits)
    first = _FRAME.pack(HEADER, channel, 12 + len(properties)) + _CONTENT.pack(60, 0, size) + properties
    if 0 < size <= BODY_BYTES:
        return b"%b%b\xce%b%b\xce" % (head, first, _FRAME.pack(BODY, channel, size), payload)
    pieces = [payload[at : at + BODY_BYTES] for at in range(0, size, BODY_BYTES)]
    return b"%b%b\xce" % (head, first) + b"".join(
        _FRAME.pack(BODY, channel, len(piece)) + piece + b"\xce" for piece in pieces
    )


def acknowledgement(channel: int, tag: int) -> bytes:
    """Everything delivered up to `tag` is dealt with."""
    return _FRAME.pack(METHOD, channel, 13) + _INDEX.pack(ACK) + _TAG.pack(tag, 1) + b"\xce"


def _short(text: bytes) -> bytes:
    return bytes((len(text),)) + text
