"""What other Django code calls: one line from a view, a command, a task, a shell, a thread or a forked worker.

    from realtime.api import publish_room
    transaction.on_commit(lambda: publish_room("orders", {"id": order.pk}))

Each function has an async twin with an ``a`` in front. Those that publish return when the backplane took the message
and raise ``BackplaneUnavailable`` within two seconds otherwise; those that ask nodes return their answers within two
seconds, whoever is silent. No call makes a connection of its own: ``door.py`` has the way to the backplane.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

import msgspec

from realtime.cluster import (
    ConnectionList,
    NodeList,
    Outcome,
    RoomList,
    connection_list,
    node_list,
    outcome,
    room_list,
)
from realtime.door import DATABASE_SECONDS, arun, ask, publish, run, version
from realtime.protocol import codec
from realtime.protocol.closing import ordered_close
from realtime.protocol.envelope import (
    LISTED_MAX,
    BroadcastEnvelope,
    Disconnect,
    Drain,
    Envelope,
    Order,
    PrivateEnvelope,
    Question,
    Remove,
    RoomEnvelope,
)
from realtime.protocol.errors import BadRoom, UnknownRecipient
from realtime.protocol.names import (
    BROADCAST_GROUP,
    NODES_GROUP,
    USER_PREFIX,
    group_of_room,
    group_of_user,
    is_node_id,
    is_room_name,
    node_of_connection,
    user_of_recipient,
)

ANSWER_SECONDS = 1.5
"""How long nodes are waited for; with the time to name the silent ones it is under two seconds."""


def publish_broadcast(data: object) -> None:
    """Publish ``data`` (anything that JSON can say) to every connection of every node."""
    run(publish(BROADCAST_GROUP, None, _broadcast(data)))


async def apublish_broadcast(data: object) -> None:
    """The async twin of ``publish_broadcast``."""
    await arun(publish(BROADCAST_GROUP, None, _broadcast(data)))


def publish_room(room: str, data: object) -> None:
    """Publish ``data`` to the members of ``room``. Raises BadRoom for a name that no room can have."""
    run(publish(_group(room), None, _room(room, data)))


async def apublish_room(room: str, data: object) -> None:
    """The async twin of ``publish_room``."""
    await arun(publish(_group(room), None, _room(room, data)))


def publish_private(to: str, data: object) -> None:
    """Publish ``data`` to one connection id, or with ``user:<primary key>`` to all connections of a user.

    Raises UnknownRecipient when ``to`` is neither. Whether somebody is connected is not told.
    """
    run(publish(*_recipient(to), _private(to, data)))


async def apublish_private(to: str, data: object) -> None:
    """The async twin of ``publish_private``."""
    await arun(publish(*_recipient(to), _private(to, data)))


# -- envelopes -------------------------------------------------------------------------------------------------------


def _raw(data: object) -> msgspec.Raw:
    text = msgspec.json.encode(data, enc_hook=str)
    codec.check_data(text)
    return msgspec.Raw(text)


def _broadcast(data: object) -> Envelope:
    return BroadcastEnvelope(v=version(), data=_raw(data))


def _room(room: str, data: object) -> Envelope:
    return RoomEnvelope(v=version(), room=room, data=_raw(data))


def _private(to: str, data: object) -> Envelope:
    return PrivateEnvelope(v=version(), to=to, data=_raw(data))


def _group(room: str) -> str:
    if not is_room_name(room):
        raise BadRoom()
    return group_of_room(room)


def _recipient(to: str) -> tuple[str | None, str | None]:
    user = user_of_recipient(to)
    if user is not None:
        return group_of_user(user), None
    node = node_of_connection(to)
    if node is None:
        raise UnknownRecipient(f"{to!r} is neither a connection id nor user:<primary key>.")
    return None, node


# -- what nodes are asked for ----------------------------------------------------------------------------------------


def disconnect(
    *,
    connection: str | None = None,
    user: object = None,
    code: int = 1008,
    reason: str = "",
    within: float = ANSWER_SECONDS,
) -> Outcome:
    """End one connection, or all connections of a user (primary key), with this close code and reason.

    ``code`` is 1000, 1001, 1008, 1012, 1013 or 3000 to 4999. Raises BadClose for another one or a reason of more than
    123 bytes, UnknownRecipient for what can be no connection id.
    """
    return _run(_disconnect(connection, user, code, reason, within), within)


async def adisconnect(
    *,
    connection: str | None = None,
    user: object = None,
    code: int = 1008,
    reason: str = "",
    within: float = ANSWER_SECONDS,
) -> Outcome:
    """The async twin of ``disconnect``."""
    return await _arun(_disconnect(connection, user, code, reason, within), within)


def remove_member(*, room: str, connection: str, within: float = ANSWER_SECONDS) -> Outcome:
    """Take a connection out of a room; its client is told by a ``left`` without ``ref``. The count is 0 if it was not
    in it. Raises BadRoom, UnknownRecipient."""
    return _run(_remove(room, connection, within), within)


async def aremove_member(*, room: str, connection: str, within: float = ANSWER_SECONDS) -> Outcome:
    """The async twin of ``remove_member``."""
    return await _arun(_remove(room, connection, within), within)


def drain(node: str, *, within: float = ANSWER_SECONDS) -> Outcome:
    """Let a node stop as on SIGTERM. The count is 1 when it has begun; it ends within its drain's deadline."""
    return _run(_drain(node, within), within)


async def adrain(node: str, *, within: float = ANSWER_SECONDS) -> Outcome:
    """The async twin of ``drain``."""
    return await _arun(_drain(node, within), within)


def list_nodes(*, within: float = ANSWER_SECONDS) -> NodeList:
    """The nodes that live, as they describe themselves."""
    return _run(_list_nodes(within), within)


async def alist_nodes(*, within: float = ANSWER_SECONDS) -> NodeList:
    """The async twin of ``list_nodes``."""
    return await _arun(_list_nodes(within), within)


def list_connections(
    *,
    user: object = None,
    room: str | None = None,
    node: str | None = None,
    limit: int = 100,
    after: str = "",
    within: float = ANSWER_SECONDS,
) -> ConnectionList:
    """Live connections by id: all of them, or those of a user, in a room, on a node. At most ``limit`` (up to 1,000;
    0 only counts), from the one that follows the id ``after``."""
    return _run(_list_connections(user, room, node, limit, after, within), within)


async def alist_connections(
    *,
    user: object = None,
    room: str | None = None,
    node: str | None = None,
    limit: int = 100,
    after: str = "",
    within: float = ANSWER_SECONDS,
) -> ConnectionList:
    """The async twin of ``list_connections``."""
    return await _arun(_list_connections(user, room, node, limit, after, within), within)


def list_members(room: str, *, limit: int = 100, after: str = "", within: float = ANSWER_SECONDS) -> ConnectionList:
    """The connections in a room, as ``list_connections(room=room)``."""
    return list_connections(room=room, limit=limit, after=after, within=within)


async def alist_members(
    room: str, *, limit: int = 100, after: str = "", within: float = ANSWER_SECONDS
) -> ConnectionList:
    """The async twin of ``list_members``."""
    return await alist_connections(room=room, limit=limit, after=after, within=within)


def list_rooms(*, prefix: str = "", limit: int = 100, after: str = "", within: float = ANSWER_SECONDS) -> RoomList:
    """Rooms with a member, by name, with their number of members on each node and in all. At most ``limit`` (up to
    1,000), from the one that follows the name ``after``."""
    return _run(_list_rooms(prefix, limit, after, within), within)


async def alist_rooms(
    *, prefix: str = "", limit: int = 100, after: str = "", within: float = ANSWER_SECONDS
) -> RoomList:
    """The async twin of ``list_rooms``."""
    return await _arun(_list_rooms(prefix, limit, after, within), within)


# -- how they are asked ----------------------------------------------------------------------------------------------


async def _disconnect(connection: str | None, user: object, code: int, reason: str, within: float) -> Outcome:
    close = ordered_close(code, reason)
    if (connection is None) == (user is None):
        raise TypeError("disconnect() takes either a connection or a user")
    to = connection if connection is not None else f"{USER_PREFIX}{user}"
    group, node_id = _recipient(to) if user is not None else (None, _node_of(to))

    def order(request: str, reply_to: str) -> Order:
        return Disconnect(v=version(), request=request, reply_to=reply_to, to=to, code=close.code, reason=close.reason)

    return outcome(await ask(order, group=group, node_id=node_id, seconds=within))


async def _remove(room: str, connection: str, within: float) -> Outcome:
    _group(room)

    def order(request: str, reply_to: str) -> Order:
        return Remove(v=version(), request=request, reply_to=reply_to, room=room, connection=connection)

    return outcome(await ask(order, node_id=_node_of(connection), seconds=within))


async def _drain(node: str, within: float) -> Outcome:
    def order(request: str, reply_to: str) -> Order:
        return Drain(v=version(), request=request, reply_to=reply_to, node=node)

    return outcome(await ask(order, node_id=_checked_node(node), seconds=within))


async def _list_nodes(within: float) -> NodeList:
    def question(request: str, reply_to: str) -> Order:
        return Question(v=version(), request=request, reply_to=reply_to, about="nodes")

    return node_list(await ask(question, group=NODES_GROUP, seconds=within))


async def _list_connections(
    user: object, room: str | None, node: str | None, limit: int, after: str, within: float
) -> ConnectionList:
    asked = _asked_of_each(limit)
    if room is not None:
        _group(room)

    def question(request: str, reply_to: str) -> Order:
        of_user = None if user is None else str(user)
        return Question(
            v=version(), request=request, reply_to=reply_to, about="connections",
            limit=asked, after=after, room=room, user=of_user,
        )  # fmt: skip

    if node is None:
        return connection_list(await ask(question, group=NODES_GROUP, seconds=within), limit)
    return connection_list(await ask(question, node_id=_checked_node(node), seconds=within), limit)


async def _list_rooms(prefix: str, limit: int, after: str, within: float) -> RoomList:
    asked = _asked_of_each(limit)

    def question(request: str, reply_to: str) -> Order:
        return Question(
            v=version(), request=request, reply_to=reply_to, about="rooms", limit=asked, after=after, prefix=prefix
        )

    return room_list(await ask(question, group=NODES_GROUP, seconds=within), limit)


def _asked_of_each(limit: int) -> int:
    if not 0 <= limit <= LISTED_MAX:
        raise ValueError(f"limit must be between 0 and {LISTED_MAX:,}, not {limit!r}")
    return limit + 1 if limit else 0


def _node_of(connection: str) -> str:
    node = node_of_connection(connection)
    if node is None:
        raise UnknownRecipient(f"{connection!r} is no connection id.")
    return node


def _checked_node(node: str) -> str:
    if not is_node_id(node):
        raise UnknownRecipient(f"{node!r} is no node id.")
    return node


Answers = TypeVar("Answers")


def _run(work: Coroutine[Any, Any, Answers], within: float) -> Answers:
    return run(work, within + DATABASE_SECONDS)


async def _arun(work: Coroutine[Any, Any, Answers], within: float) -> Answers:
    return await arun(work, within + DATABASE_SECONDS)
