"""What arrives from the backplane: publications are sorted by audience and delivered, the rest is for the node itself.

A batch is whatever one read of the backplane's socket brought. Publications for the same audience are joined up to
``batch_max_messages`` and ``batch_max_bytes``; their order within a room is the backplane's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from realtime.delivery import Run
from realtime.logs import LineLimit
from realtime.protocol import codec
from realtime.protocol.envelope import (
    Answer,
    AnyEnvelope,
    BroadcastEnvelope,
    Echo,
    Goodbye,
    Heartbeat,
    Order,
    PrivateEnvelope,
    Receipt,
    RoomEnvelope,
    Roster,
    RosterChanges,
    StreamEnd,
    StreamOpen,
    StreamPiece,
    UnreadableEnvelope,
    Unwatch,
    Watch,
    decode,
)
from realtime.protocol.messages import Broadcast, PrivateMessage, RoomMessage
from realtime.protocol.names import user_of_recipient

if TYPE_CHECKING:
    from realtime.hub import Member
    from realtime.node import Node

logger = logging.getLogger("realtime.inbound")

UNREADABLE_SECONDS = 10.0
"""One line at most in that time says that there were envelopes which this node cannot read."""

Audience = str | None
"""A room's name; None: everybody."""


class Inbound:
    """The node's ear: a ``Listener`` of the backplane."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._window = node.settings.batch_window_ms / 1000
        self._unreadable = LineLimit(most=1, seconds=UNREADABLE_SECONDS)

    def _log_unreadable(self) -> None:
        unlogged = self._unreadable.admit(time.monotonic())
        if unlogged is not None:
            logger.warning("envelopes_unreadable count=%d", unlogged + 1)

    async def deliver(self, batch: list[bytes]) -> None:
        """Everything that arrived together. Awaited by the backplane before it hands over more."""
        node = self._node
        node.instrument.batch_received(len(batch))
        node.deliverer.begin_batch()
        for audience, run in self._sort(batch):
            if audience is None:
                await node.deliverer.deliver(node.hub.writers, run)
            else:
                room = node.hub.rooms.get(audience)
                if room is not None:
                    await node.deliverer.deliver(room.writers, run)
        if self._window:
            # Not reading for that long lets the next batch grow; the backplane's socket holds what comes meanwhile.
            await asyncio.sleep(self._window)

    def interrupted(self) -> None:
        """The subscription of at least one shard is lost."""
        self._node.trust.subscription_lost()

    def resumed(self, groups: frozenset[str] | None) -> None:
        """Every subscription is confirmed again."""
        self._node.trust.subscription_resumed(groups)

    def dropped(self, count: int) -> None:
        """The layer dropped something: nobody knows for whom."""
        self._node.instrument.backplane_dropped(count)
        self._node.streams.interrupted()
        self._node.missed.tell_soon(None)

    def _sort(self, batch: list[bytes]) -> list[tuple[Audience, Run]]:
        """Handle what is for the node, and gather the rest into runs, in the order of their first publication."""
        settings = self._node.settings
        runs: list[tuple[Audience, Run]] = []
        open_runs: dict[Audience, Run] = {}
        for raw in batch:
            try:
                envelope = decode(raw)
            except UnreadableEnvelope as error:
                self._node.instrument.envelope_unreadable()
                self._log_unreadable()
                self._node.missed.tell_soon(None if error.room is None else [error.room])
                continue
            if isinstance(envelope, RoomEnvelope):
                audience: Audience = envelope.room
                text = codec.encode(RoomMessage(room=envelope.room, sender=envelope.sender, data=envelope.data))
            elif isinstance(envelope, BroadcastEnvelope):
                audience = None
                text = codec.encode(Broadcast(sender=envelope.sender, data=envelope.data))
            else:
                self._handle(envelope)
                continue
            run = open_runs.get(audience)
            if run is None or run.is_full(settings.batch_max_messages, settings.batch_max_bytes):
                run = open_runs[audience] = Run()
                runs.append((audience, run))
            run.add(text, envelope.skip, envelope)
            if envelope.at is not None:
                run.published_at = envelope.at
        return runs

    def _handle(self, envelope: AnyEnvelope) -> None:
        node = self._node
        match envelope:
            case PrivateEnvelope():
                self._deliver_private(envelope)
            case Receipt():
                node.receipts.settle(envelope.receipt, envelope.is_delivered)
            case Echo():
                node.trust.heard(envelope.shard, envelope.nonce)
            case Heartbeat():
                if envelope.node != node.id:
                    node.neighbours.heard(envelope)
            case Goodbye():
                node.neighbours.gone(envelope.node)
            case Watch():
                if envelope.node != node.id:
                    rooms = node.members.node_watches(envelope.node, envelope.rooms)
                    node.publish_to(envelope.node, Roster(v=node.version, node=node.id, rooms=rooms))
            case Unwatch():
                node.members.node_unwatches(envelope.node, envelope.rooms)
            case Roster():
                node.members.roster_came(envelope.node, envelope.rooms)
            case RosterChanges():
                node.members.changes_came(envelope.node, envelope.changes)
            case Order():
                node.orders.came(envelope)
            case Answer():
                node.inquiries.came(envelope)
            case StreamOpen() | StreamPiece() | StreamEnd():
                node.streams.came(envelope)

    def _deliver_private(self, envelope: PrivateEnvelope) -> None:
        node = self._node
        user = user_of_recipient(envelope.to)
        recipients: list[Member]
        if user is None:
            one = node.hub.connections.get(envelope.to)
            recipients = [one] if one is not None else []
        else:
            recipients = list(node.hub.users.get(user, {}).values())
        recipients = [each for each in recipients if each.id in node.hub.writers]
        if recipients:
            run = Run()
            run.add(codec.encode(PrivateMessage(sender=envelope.sender, data=envelope.data)), None, envelope)
            node.deliverer.deliver_now({member.id: member.writer for member in recipients}, run)
        # Of a user's nodes only those that have somebody answer: the first of them settles the receipt.
        if envelope.receipt is not None and envelope.node is not None and (recipients or user is None):
            answer = Receipt(v=node.version, receipt=envelope.receipt, is_delivered=bool(recipients))
            node.publish_to(envelope.node, answer)
