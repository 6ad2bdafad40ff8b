"""Publishing: to everyone, to a room, to one connection or user."""

from __future__ import annotations

from msgspec import Raw

from realtime.connection import Connection
from realtime.protocol.envelope import BroadcastEnvelope, PrivateEnvelope, RoomEnvelope
from realtime.protocol.errors import NotJoined, Unavailable, UnknownRecipient
from realtime.protocol.messages import Ack, PublishBroadcast, PublishPrivate, PublishRoom, Ref
from realtime.protocol.names import (
    BROADCAST_GROUP,
    group_of_user,
    node_of_connection,
    user_of_recipient,
)
from realtime.signals import message_received


async def broadcast(connection: Connection, command: PublishBroadcast, *, binary: bool = False) -> None:
    """Publish to every connection of every node. ``binary``: bytes are in the data, as base64."""
    connection.spend_broadcast()
    node = connection.node
    if (pending := node.judge.broadcast(connection.caller)) is not None:
        await pending
    skip = None if command.echo else connection.id
    envelope = BroadcastEnvelope(v=node.version, data=command.data, sender=connection.id, skip=skip, binary=binary)
    connection.acknowledge(node.publish(BROADCAST_GROUP, envelope), command.ref)
    if message_received.receivers:
        _tell(connection, "broadcast", command.data)


async def room(connection: Connection, command: PublishRoom, *, event: str | None = None, binary: bool = False) -> None:
    """Publish to the members of a room that the sender is in; to those with Socket.IO as ``event`` if it has a name."""
    joined = connection.rooms.get(command.room)
    if joined is None:
        raise NotJoined()
    node = connection.node
    if (pending := node.judge.publish(connection.caller, command.room)) is not None:
        await pending
    skip = None if command.echo else connection.id
    envelope = RoomEnvelope(
        v=node.version,
        room=command.room,
        data=command.data,
        sender=connection.id,
        skip=skip,
        event=event,
        binary=binary,
    )
    connection.acknowledge(node.publish(joined.group, envelope), command.ref)
    if message_received.receivers:
        _tell(connection, "room", command.data, room=command.room)


async def private(connection: Connection, command: PublishPrivate, *, binary: bool = False) -> None:
    """Publish to one connection, or to all connections of a user; acknowledged when the recipient's node confirms."""
    node = connection.node
    if (pending := node.judge.send_private(connection.caller, command.to)) is not None:
        await pending
    user = user_of_recipient(command.to)
    recipient_node = None if user is not None else node_of_connection(command.to)
    if user is None:
        is_here = recipient_node != node.id or command.to in node.hub.connections
        if recipient_node is None or not is_here or not node.may_be_alive(recipient_node):
            raise UnknownRecipient()
    receipt = _expect_receipt(connection, command.ref)
    envelope = PrivateEnvelope(
        v=node.version,
        to=command.to,
        data=command.data,
        sender=connection.id,
        node=node.id if receipt else None,
        receipt=receipt,
        binary=binary,
    )
    if recipient_node is not None:
        published = node.publish_to(recipient_node, envelope)
    else:
        published = node.publish(group_of_user(user or ""), envelope)
    if message_received.receivers:
        _tell(connection, "private", command.data, to=command.to)
    if receipt is None:
        connection.acknowledge(published, None)
        return

    def published_or_not(done: object) -> None:
        if published.cancelled() or published.exception() is not None:
            if node.receipts.cancel(receipt):
                connection.answered()
            connection.refuse(Unavailable(), command.ref)
        elif published.result() == 0:
            node.receipts.settle(receipt, False)  # the backplane knows that no node listens

    published.add_done_callback(published_or_not)


def _tell(connection: Connection, kind: str, data: Raw, *, room: str | None = None, to: str | None = None) -> None:
    """Other Django code hears what a client published."""
    connection.node.signals.put(
        message_received,
        size=memoryview(data).nbytes,
        connection=connection.id,
        user=connection.user,
        node=connection.node.id,
        kind=kind,
        room=room,
        to=to,
        data=data,
    )


def _expect_receipt(connection: Connection, ref: Ref | None) -> int | None:
    if ref is None:
        return None

    def answered(is_delivered: bool) -> None:
        connection.answered()
        if is_delivered:
            connection.send(Ack(ref=ref))
        else:
            connection.refuse(UnknownRecipient(), ref)

    connection.answer_later()
    return connection.node.receipts.expect(answered)
