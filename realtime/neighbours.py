"""What a node does about the others: it gets acquainted, notices who is gone, and judges who is dead."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from realtime.live_nodes import LiveNodes, look_seconds, stall_seconds
from realtime.protocol.envelope import Heartbeat, Watch
from realtime.protocol.names import NODES_GROUP, node_channel

if TYPE_CHECKING:
    from realtime.node import Node

logger = logging.getLogger("realtime.node")


class Neighbours:
    """Owns the table of live nodes and speaks for the node to the others.

    ``on_died(node)``: that node is taken for dead. ``on_survey(own, heard, since)``, once: whoever else lives was
    heard since ``since``, seconds since the epoch.
    """

    def __init__(
        self,
        node: Node,
        *,
        on_died: Callable[[str], None],
        on_survey: Callable[[str, list[str], float], None],
        clock: Callable[[], float],
    ) -> None:
        settings = node.settings
        stall = stall_seconds(settings.heartbeat_seconds, settings.node_timeout_seconds)
        self.table = LiveNodes(node.id, settings.node_timeout_seconds, stall)
        self._node = node
        self._on_died = on_died
        self._on_survey = on_survey
        self._clock = clock

    def announce(self, *, was_interrupted: bool = False) -> None:
        """Tell everybody that this node lives, and what users spent here. A node that said goodbye speaks no more."""
        node = self._node
        spent = node.throttle.tell()
        if node.trust.is_trusted and node.state != "stopped":
            heartbeat = msgspec.structs.replace(node.heartbeat(), spent=spent)
            if was_interrupted:
                heartbeat = msgspec.structs.replace(heartbeat, was_interrupted=True)
            node.publish(NODES_GROUP, heartbeat)

    def heard(self, heartbeat: Heartbeat) -> None:
        """Another node lives.

        1. One that was not known is told of this node. 2. One that took this node for dead took it out of its groups.
        3. Who did not know the other, or was deaf, does not know what that one watches, and told it of no changes: it
        is asked again.
        """
        now = self._clock()
        node = self._node
        is_new = self.table.heard(heartbeat, now)
        node.throttle.heard(heartbeat.spent)
        if is_new:
            logger.info("node_appeared node=%s other=%s", node.id, heartbeat.node)
        if not node.trust.is_trusted or node.state == "stopped":
            return  # trust that comes back asks everybody
        if is_new and not heartbeat.is_answer:
            node.publish_to(heartbeat.node, msgspec.structs.replace(node.heartbeat(), is_answer=True))
        if self.table.forgot_this(heartbeat, now):
            logger.warning("node_was_forgotten node=%s by=%s", node.id, heartbeat.node)
            node.backplane.was_forgotten()
        if is_new or heartbeat.is_answer or heartbeat.was_interrupted:
            for rooms in node.members.questions():
                node.publish_to(heartbeat.node, Watch(v=node.version, node=node.id, rooms=rooms))

    def gone(self, node_id: str) -> None:
        """Another node said goodbye, or is dead."""
        node = self._node
        if self.table.forget(node_id):
            logger.info("node_gone node=%s other=%s", node.id, node_id)
            node.members.node_gone(node_id)
            node.streams.node_gone(node_id)
            node.tasks.start(f"forget {node_id}", node.backplane.forget_node(node_channel(node_id)))

    async def judge(self) -> None:
        """For ever: 1. who was silent for too long is dead; 2. once, whom nobody could hear die; 3. wait."""
        settings = self._node.settings
        while True:
            now = self._clock()
            for node_id in self.table.silent(now):
                logger.warning("node_died node=%s other=%s", self._node.id, node_id)
                self._node.instrument.node_died()
                self.gone(node_id)
                self._on_died(node_id)
            if self.table.may_survey(now):
                self._on_survey(self._node.id, self.table.others, time.time() - settings.node_timeout_seconds)
            await asyncio.sleep(look_seconds(settings.heartbeat_seconds) * random.uniform(0.9, 1.1))
