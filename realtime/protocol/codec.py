"""Bytes to commands, replies and pushes to bytes. The only place where a client's JSON is looked at."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, Union

import msgspec

from realtime.protocol import errors, messages
from realtime.protocol.names import is_room_name

DEPTH_MAX: Final = 128
"""Nesting of a message; every JSON reader that we know of takes more."""

_HUGE_NUMBER = re.compile(rb"\d{309}")
_FLOAT_MAX_DIGITS: Final = 308
_FIELD = re.compile(r"`\$\.?(?P<path>[^`]*)`|field `(?P<missing>[^`]+)`")

_PROTOCOL: Final[tuple[type[msgspec.Struct], ...]] = (
    messages.Ping,
    messages.Join,
    messages.Leave,
    messages.PublishBroadcast,
    messages.PublishRoom,
    messages.PublishPrivate,
    messages.Authenticate,
)
_commands: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Union[_PROTOCOL])  # noqa: UP007  a tuple
_any: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()

encode = _encoder.encode
"""A reply or push as JSON bytes."""

_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class RefusedText(Exception):
    """A text that is no command: the refusal, and the ``ref`` that it carried, if one could be found."""

    def __init__(self, refusal: errors.CommandRefused, ref: str | int | None) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.ref = ref


def extend(own: Iterable[type[messages.OwnCommand]]) -> None:
    """Decode these commands of the project beside those of the protocol from now on, in place of any given before.

    A decoder finds the type by a table of all names, so that none gets slower by more of them.
    """
    global _commands, _kinds
    types: tuple[type[msgspec.Struct], ...] = (*_PROTOCOL, *own)
    _commands = msgspec.json.Decoder(Union[types])  # noqa: UP007
    _kinds = frozenset(map(_name_of, types))


def decode_command(text: bytes) -> messages.Command:
    """One command from the UTF-8 JSON that a client sent.

    Raises RefusedText with `bad_json`, `unknown_type`, `bad_message` (its message names the field) or `bad_room`.
    """
    try:
        command: messages.Command = _commands.decode(text)
    except (msgspec.ValidationError, *_MALFORMED) as error:
        command = _decode_again(text, error)
    data = getattr(command, "data", None)
    if data is not None:
        try:
            check_data(data)
        except errors.CommandRefused as refusal:
            raise RefusedText(refusal, command.ref) from None
    room = getattr(command, "room", None)
    if room is not None and not is_room_name(room):
        raise RefusedText(errors.BadRoom(), command.ref)
    return command


def check_data(data: msgspec.Raw | bytes) -> None:
    """Refuse JSON that some reader could not read, or that the bytes only look like; ``bad_json`` says why."""
    raw = bytes(data)
    try:
        value = _any.decode(raw)
    except _MALFORMED as error:
        raise errors.BadJson(_why(error)) from None
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX and _is_deeper_than(value, DEPTH_MAX):
        raise errors.BadJson(f"Nested deeper than {DEPTH_MAX} levels.")
    if _HUGE_NUMBER.search(raw) and _has_huge_number(value):
        raise errors.BadJson("A number is larger than readers can hold.")


def encode_error(refusal: errors.CommandRefused, ref: str | int | None) -> bytes:
    """The ``error`` reply for a refused command."""
    return encode(
        messages.Error(
            code=refusal.code,
            message=refusal.message,
            retry_after=msgspec.UNSET if refusal.retry_after is None else refusal.retry_after,
            ref=msgspec.UNSET if ref is None else ref,
        )
    )


def _decode_again(text: bytes, error: Exception) -> messages.Command:
    """The slow path of a text that did not decode: name what is wrong with it, or mend a repeated ``type``."""
    try:
        loose = _any.decode(text)
    except _MALFORMED as malformed:
        raise RefusedText(errors.BadJson(_why(malformed)), None) from None
    if not isinstance(loose, dict):
        raise RefusedText(errors.BadMessage("A message is a JSON object."), None)
    ref = _ref_of(loose)
    kind = loose.get("type")
    if not isinstance(kind, str):
        raise RefusedText(errors.BadMessage("Field `type` is missing or not a string."), ref)
    if kind not in _kinds:
        raise RefusedText(errors.UnknownType(f"There is no command {kind[:40]!r}."), ref)
    try:
        # Of duplicate keys the last one wins, in `type` as in any other field.
        again: messages.Command = _commands.decode(_encoder.encode(loose))
    except (msgspec.ValidationError, *_MALFORMED) as invalid:
        raise RefusedText(errors.BadMessage(_name_field(str(invalid))), ref) from error
    return again


def _name_of(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


_kinds = frozenset(map(_name_of, _PROTOCOL))


def _ref_of(loose: dict[str, Any]) -> str | int | None:
    ref = loose.get("ref")
    if isinstance(ref, bool):
        return None
    if isinstance(ref, str):
        return ref if len(ref) <= 128 else None
    return ref if isinstance(ref, int) and -(2**63) <= ref < 2**63 else None


def _name_field(reason: str) -> str:
    match = _FIELD.search(reason)
    field = (match["path"] or match["missing"]) if match else None
    if field is None:
        return reason
    return f"Field `{field}`: {reason.split(' - at ')[0]}."


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"Nested deeper than {DEPTH_MAX} levels."
    if isinstance(error, UnicodeDecodeError):
        return "The text is not UTF-8."
    return f"{error}."


def _is_deeper_than(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, (dict, list)) else []
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, (dict, list))
        ]
    return bool(level)


def _has_huge_number(value: Any) -> bool:
    pending = [value]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, int) and abs(node) >= 10**_FLOAT_MAX_DIGITS:
            return True
    return False
