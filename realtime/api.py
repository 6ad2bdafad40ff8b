"""What other Django code calls: one line from a view, a command, a task, a shell, a thread or a forked worker.

    from realtime.api import publish_room
    transaction.on_commit(lambda: publish_room("orders", {"id": order.pk}))

Each function has an async twin with an ``a`` in front. They return when the backplane took the message and raise
``BackplaneUnavailable`` within two seconds otherwise. No call makes a connection of its own: a process with a node
publishes through it, any other through one background thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any

import msgspec
from channels.layers import channel_layers

from realtime.conf import current
from realtime.exceptions import BackplaneUnavailable
from realtime.layers.wire import as_message
from realtime.protocol import codec
from realtime.protocol.envelope import (
    READS,
    BroadcastEnvelope,
    Envelope,
    PrivateEnvelope,
    RoomEnvelope,
    encode,
)
from realtime.protocol.errors import BadRoom, UnknownRecipient
from realtime.protocol.names import (
    BROADCAST_GROUP,
    group_of_room,
    group_of_user,
    is_room_name,
    node_channel,
    node_of_connection,
    user_of_recipient,
)
from realtime.runtime import runtime

MARGIN_SECONDS = 0.5
"""Beyond the backplane's own limit: what a busy thread may add."""


def publish_broadcast(data: object) -> None:
    """Publish ``data`` (anything that JSON can say) to every connection of every node."""
    _run(_publish(BROADCAST_GROUP, None, _broadcast(data)))


async def apublish_broadcast(data: object) -> None:
    """The async twin of ``publish_broadcast``."""
    await _arun(_publish(BROADCAST_GROUP, None, _broadcast(data)))


def publish_room(room: str, data: object) -> None:
    """Publish ``data`` to the members of ``room``. Raises BadRoom for a name that no room can have."""
    _run(_publish(_group(room), None, _room(room, data)))


async def apublish_room(room: str, data: object) -> None:
    """The async twin of ``publish_room``."""
    await _arun(_publish(_group(room), None, _room(room, data)))


def publish_private(to: str, data: object) -> None:
    """Publish ``data`` to one connection id, or with ``user:<primary key>`` to all connections of a user.

    Raises UnknownRecipient when ``to`` is neither. Whether somebody is connected is not told.
    """
    _run(_publish(*_recipient(to), _private(to, data)))


async def apublish_private(to: str, data: object) -> None:
    """The async twin of ``publish_private``."""
    await _arun(_publish(*_recipient(to), _private(to, data)))


# -- envelopes -------------------------------------------------------------------------------------------------------


def _raw(data: object) -> msgspec.Raw:
    text = msgspec.json.encode(data, enc_hook=str)
    codec.check_data(text)
    return msgspec.Raw(text)


def _version() -> int:
    # A process without a node cannot know what the nodes read: the oldest version is read by all.
    node = runtime().node
    return READS[0] if node is None else node.version


def _broadcast(data: object) -> Envelope:
    return BroadcastEnvelope(v=_version(), data=_raw(data))


def _room(room: str, data: object) -> Envelope:
    return RoomEnvelope(v=_version(), room=room, data=_raw(data))


def _private(to: str, data: object) -> Envelope:
    return PrivateEnvelope(v=_version(), to=to, data=_raw(data))


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


# -- the way to the backplane ----------------------------------------------------------------------------------------


async def _publish(group: str | None, node_id: str | None, envelope: Envelope) -> None:
    node = runtime().node
    if node is not None:
        await (node.publish(group, envelope) if group is not None else node.publish_to(node_id or "", envelope))
        return
    layer = channel_layers[current().layer]
    message = as_message(encode(envelope))
    try:
        async with asyncio.timeout(current().publish_timeout_seconds):
            if group is not None:
                await layer.group_send(group, message)
            else:
                await layer.send(node_channel(node_id or ""), message)
    except BackplaneUnavailable:
        raise
    except Exception as error:  # each layer has its own; all of them mean that it is not known to be taken
        raise BackplaneUnavailable(f"{type(error).__name__}: {error}") from error


class _Door:
    """One background thread with an event loop, for processes without a node; made at the first publication."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The node's loop in a process with a node, else the background thread's."""
        own = runtime().loop
        if own is not None:
            return own
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="realtime-api", daemon=True).start()
            return self._loop


_door = _Door()


def _forget_parent() -> None:
    """A forked child has neither the parent's thread nor its loop."""
    global _door
    _door = _Door()


os.register_at_fork(after_in_child=_forget_parent)


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        work.close()
        raise RuntimeError("this thread runs an event loop: await the function with an `a` in front instead")
    handle = asyncio.run_coroutine_threadsafe(work, _door.loop())
    try:
        handle.result(current().publish_timeout_seconds + MARGIN_SECONDS)
    except concurrent.futures.TimeoutError as error:
        handle.cancel()
        raise BackplaneUnavailable("the backplane did not answer in time") from error


async def _arun(work: Coroutine[Any, Any, None]) -> None:
    loop = _door.loop()
    if loop is asyncio.get_running_loop():
        await work
        return
    handle = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))
    try:
        async with asyncio.timeout(current().publish_timeout_seconds + MARGIN_SECONDS):
            await handle
    except TimeoutError as error:
        raise BackplaneUnavailable("the backplane did not answer in time") from error
