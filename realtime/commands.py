"""The hook for a project's own commands. docs/extending.md shows it.

    from realtime.commands import Client, Refusal, command

    @command("order.move")
    async def move(client: Client, *, order: int, to: str) -> dict[str, object]:
        ...
        return {"order": order, "to": to}

The fields of a command are the keyword-only parameters of its handler, typed as msgspec reads types, and decoded as
strictly as those of our own. Handlers are coroutines or plain functions; plain ones run in a thread, where the database
may be used. What a handler returns is the ``data`` of the reply; None is answered with ``ack``.
"""

from __future__ import annotations

import asyncio
import inspect
import re
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from realtime.clients import ConnectedClient
from realtime.connection import Connection
from realtime.exceptions import RealtimeError
from realtime.handlers import HANDLERS, rooms
from realtime.protocol import codec
from realtime.protocol.closing import ordered_close
from realtime.protocol.envelope import RoomEnvelope
from realtime.protocol.errors import ERRORS, BadRoom, CommandRefused
from realtime.protocol.messages import COMMANDS, OUTBOUND, Ack, Leave, OwnCommand, OwnReply, echo_ref
from realtime.protocol.names import group_of_room, is_room_name

__all__ = ["Client", "Refusal", "command"]

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])

NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)+")
NAME_MAX_CHARACTERS = 64
CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
RESERVED_FIELDS = frozenset({"type", "ref"})
PREFIX = "own_"
"""Before the attributes of a command: what is called ``data`` or ``room`` need not be what it is in the protocol."""

_TAKEN = frozenset(str(kind.__struct_config__.tag) for kind in (*COMMANDS, *OUTBOUND))
_CODES = frozenset(error.code for error in ERRORS)


class Refusal(RealtimeError):
    """The command was refused."""

    code = "refused"
    """What the client is told; of a subclass its own, which none of the protocol's may be."""

    def __init_subclass__(cls) -> None:
        if not CODE.fullmatch(cls.code) or cls.code in _CODES:
            raise ValueError(f"{cls.__name__}: the code {cls.code!r} is one of the protocol, or none at all")

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        super().__init__(self.message)


class Client(ConnectedClient[Connection]):
    """The client that sent a command."""

    @property
    def rooms(self) -> list[str]:
        """The rooms that the client is in."""
        return list(self._connection.rooms)

    async def publish_room(self, room: str, data: object, *, echo: bool = False) -> None:
        """Publish to the other members of a room, as this client, whether it is in it or not; ``echo`` includes it.

        Raises BadRoom and BackplaneUnavailable.
        """
        node = self._connection.node
        if not is_room_name(room):
            raise BadRoom()
        skip = None if echo else self.id
        envelope = RoomEnvelope(v=node.version, room=room, data=_raw(data), sender=self.id, skip=skip)
        await node.publish(group_of_room(room), envelope)

    async def join(self, room: str) -> None:
        """Make the client a member of a room, whatever it may do itself.

        Raises BadRoom, TooManyRooms and BackplaneUnavailable.
        """
        if not is_room_name(room):
            raise BadRoom()
        await rooms.put_in(self._connection, room)

    async def leave(self, room: str) -> None:
        """Take the client out of a room. Raises NotJoined."""
        await HANDLERS[Leave](self._connection, Leave(room=room))

    async def disconnect(self, code: int = 1008, reason: str = "") -> None:
        """End the connection, with a close code as ``realtime.api.disconnect`` takes it."""
        self._connection.evict(ordered_close(code, reason))


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: its type as it is decoded, and what handles it."""

    kind: type[OwnCommand]
    answer: Callable[[Connection, Any], Any]


class Registry:
    """The commands of this project, by name. They are installed once, when all applications are loaded."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._is_installed = False

    def add(self, name: str, function: Callable[..., Any]) -> None:
        """One more command. Raises ValueError for a bad name, TypeError for a handler that cannot be called."""
        _require_free(name, self._entries)
        fields = _fields_of(name, function)
        kind = _kind_of(name, fields)
        self._entries[name] = Entry(kind, _answering(name, function, fields))
        if self._is_installed:  # by a module that is imported late
            self.install()

    def remove(self, name: str) -> None:
        """No such command any more."""
        del self._entries[name]
        self.install()

    def install(self) -> None:
        """Let clients use the commands that there are."""
        self._is_installed = True
        HANDLERS.own = {each.kind: each.answer for each in self._entries.values()}
        codec.extend(each.kind for each in self._entries.values())


registry = Registry()


def command(name: str) -> Callable[[AnyHandler], AnyHandler]:
    """Call the function for each command of this type: ``(client, *, fields)``. The name has a dot: ``order.move``."""

    def register(handler: AnyHandler) -> AnyHandler:
        registry.add(name, handler)
        return handler

    return register


# -- how one is made -------------------------------------------------------------------------------------------------


def _require_free(name: str, registered: typing.Container[str]) -> None:
    if name in _TAKEN:
        raise ValueError(f"{name!r} is a message of the protocol")
    if len(name) > NAME_MAX_CHARACTERS or not NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is no name of a command: it needs a dot, as in 'order.move', so that none of the protocol will "
            f"ever have it, and at most {NAME_MAX_CHARACTERS} small letters, digits, - and _"
        )
    if name in registered:
        raise ValueError(f"the command {name!r} is registered already")


def _fields_of(name: str, function: Callable[..., Any]) -> dict[str, tuple[str, Any, Any]]:
    """The fields by the names of their parameters: attribute, type and default. Raises TypeError."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].kind not in (parameters[0].POSITIONAL_ONLY, parameters[0].POSITIONAL_OR_KEYWORD):
        raise TypeError(f"the handler of {name!r} must take the client first")
    types = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, tuple[str, Any, Any]] = {}
    for each in parameters[1:]:
        if each.kind is not each.KEYWORD_ONLY or each.name not in types or each.name in RESERVED_FIELDS:
            raise TypeError(
                f"the handler of {name!r}: {each.name!r} must be keyword-only and have a type; a field is not called "
                "type or ref"
            )
        default = msgspec.NODEFAULT if each.default is each.empty else each.default
        fields[each.name] = (f"{PREFIX}{each.name}", types[each.name], default)
    return fields


def _kind_of(name: str, fields: dict[str, tuple[str, Any, Any]]) -> type[OwnCommand]:
    kind = msgspec.defstruct(
        f"Own {name}",
        [
            (attribute, kind, msgspec.field(name=field, default=default))
            for field, (attribute, kind, default) in fields.items()
        ],
        bases=(OwnCommand,),
        tag=name,
        frozen=True,
        kw_only=True,
    )
    msgspec.json.Decoder(kind)  # raises TypeError for what cannot be decoded
    assert issubclass(kind, OwnCommand)
    return kind


def _answering(
    name: str, function: Callable[..., Any], fields: dict[str, tuple[str, Any, Any]]
) -> Callable[[Connection, Any], Any]:
    attributes = [(field, attribute) for field, (attribute, _, _) in fields.items()]
    unchecked = [attribute for attribute, kind, _ in fields.values() if kind is msgspec.Raw]
    is_async = asyncio.iscoroutinefunction(function)

    async def answer(connection: Connection, asked: OwnCommand) -> None:
        for attribute in unchecked:
            codec.check_data(getattr(asked, attribute))
        client = Client(connection)
        arguments = {field: getattr(asked, attribute) for field, attribute in attributes}
        try:
            result = await (function(client, **arguments) if is_async else _in_thread(function, client, **arguments))
        except Refusal as refusal:
            raise _as_refused(refusal) from refusal
        if result is not None:
            connection.answer_own(OwnReply(type=name, ref=echo_ref(asked.ref), data=_raw(result)))
        elif asked.ref is not None:
            connection.send(Ack(ref=asked.ref))

    return answer


def _as_refused(refusal: Refusal) -> CommandRefused:
    refused = CommandRefused(refusal.message, retry_after=refusal.retry_after)
    refused.code = refusal.code
    return refused


def _raw(data: object) -> msgspec.Raw:
    """What a handler says, as JSON that every client can read. Raises ValueError: it is no fault of the client's."""
    text = msgspec.json.encode(data, enc_hook=str)
    try:
        codec.check_data(text)
    except CommandRefused as error:
        raise ValueError(error.message) from error
    return msgspec.Raw(text)


async def _in_thread(function: Callable[..., Any], *arguments: Any, **fields: Any) -> Any:
    from channels.db import DatabaseSyncToAsync

    return await DatabaseSyncToAsync(function, thread_sensitive=False)(*arguments, **fields)
