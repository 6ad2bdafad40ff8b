"""What travels over Redis: names and payloads. A table of it, for other languages, is in docs/backplanes.md."""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import time
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from realtime.logs import LineLimit

logger = logging.getLogger(__name__)

ENVELOPE_START = b"{"
ENVELOPE_TYPE = "rt.envelope"
FOREIGN_SECONDS = 10.0
"""One line at most in that time says that there were payloads which no key fits."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class UnreadablePayload(Exception):
    """The payload was not written by this layer, or with another encryption key."""


def group_on_wire(prefix: str, group: str) -> bytes:
    """The Redis channel of a group; the same as channels_redis.pubsub uses."""
    return f"{prefix}__group__{group}".encode()


def channel_on_wire(prefix: str, channel: str) -> bytes:
    """The Redis channel of a Channels channel, a node's own included."""
    return f"{prefix}__channel__{channel}".encode()


def shard_of(name: bytes, count: int) -> int:
    """Which of `count` shards carries this Redis channel; the same arithmetic as in channels_redis."""
    if count == 1:
        return 0
    return int((binascii.crc32(name) & 0xFFF) / (4096 / count))


def as_message(envelope: bytes) -> dict[str, Any]:
    """An envelope as a message of a layer that carries dicts only."""
    return {"type": ENVELOPE_TYPE, "text": envelope.decode()}


def as_envelope(message: Any) -> bytes | None:
    """The envelope in such a message; None if it is none."""
    if isinstance(message, dict) and message.get("type") == ENVELOPE_TYPE:
        text = message.get("text")
        if isinstance(text, str):
            return text.encode("utf-8", "replace")
    return None


class Codec:
    """Messages to payloads and back: envelopes as they are, others as msgpack, both encrypted if there are keys.

    The first byte tells them apart: `{` (0x7b) can never begin a msgpack map.
    """

    def __init__(self, symmetric_encryption_keys: Sequence[str | bytes] | None = None) -> None:
        if isinstance(symmetric_encryption_keys, str | bytes):
            raise ValueError("symmetric_encryption_keys must be a list of keys, the newest first")
        keys = symmetric_encryption_keys or []
        self._crypter = MultiFernet([_fernet(key) for key in keys]) if keys else None
        self._foreign = LineLimit(most=1, seconds=FOREIGN_SECONDS)

    @property
    def encrypts(self) -> bool:
        return self._crypter is not None

    def seal(self, plain: bytes) -> bytes:
        """What goes on the wire for these plain bytes."""
        return plain if self._crypter is None else self._crypter.encrypt(plain)

    def unseal(self, payload: bytes) -> bytes:
        """The plain bytes of a payload; raises UnreadablePayload for a foreign key."""
        if self._crypter is None:
            return payload
        try:
            return self._crypter.decrypt(payload)
        except InvalidToken as error:
            unlogged = self._foreign.admit(time.monotonic())
            if unlogged is not None:
                logger.warning("backplane_key_unknown count=%d", unlogged + 1)
            raise UnreadablePayload("no key fits") from error

    def encode(self, message: dict[str, Any]) -> bytes:
        """A message as plain bytes; an envelope travels as its own text."""
        return as_envelope(message) or _encode(message)

    def decode(self, plain: bytes) -> dict[str, Any]:
        """The message in plain bytes, an envelope wrapped as `rt.envelope`."""
        if plain.startswith(ENVELOPE_START):
            try:
                return as_message(plain)
            except UnicodeDecodeError as error:
                raise UnreadablePayload("not UTF-8") from error
        try:
            message = _decode(plain)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise UnreadablePayload("neither JSON text nor msgpack") from error
        if not isinstance(message, dict):
            raise UnreadablePayload("not a map")
        return message

    def decode_batched(self, plain: bytes) -> bytes | dict[str, Any]:
        """An envelope as its bytes, any other message as a dict."""
        if plain.startswith(ENVELOPE_START):
            return plain
        message = self.decode(plain)
        return as_envelope(message) or message


def _fernet(key: str | bytes) -> Fernet:
    """The key derivation of channels_redis, so that both can share a Redis."""
    secret = key.encode() if isinstance(key, str) else key
    return Fernet(base64.urlsafe_b64encode(hashlib.sha256(secret).digest()))
