"""The node: one per process. It joins the hub to the backplane.

It publishes for its connections, delivers what comes back, and keeps the table of live nodes. Its parts:
``subscriptions`` (groups), ``delivery`` (writes), ``members`` (lists), ``neighbours`` (others), ``trust`` (is the
backplane to be believed), ``receipts`` (confirmations), ``missed`` (what clients are told), ``orders`` and
``inquiries`` (what Django code asks of nodes, and the answers), ``streams`` (requests carried between nodes),
``inbound`` (sorts what arrives), ``occupancy`` (who may come and go), ``backlogs`` (who reads too slowly), ``expiry``
(whose credential ends), ``judge`` (what clients may do), ``throttle`` (how much), ``meter`` (its figures).
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable

from realtime import __version__
from realtime.backlogs import Backlogs
from realtime.conf import Settings
from realtime.delivery import Deliverer
from realtime.exceptions import BackplaneUnavailable
from realtime.expiry import Expiry
from realtime.hub import Hub, Member, Room
from realtime.inbound import Inbound
from realtime.inquiries import Inquiries
from realtime.instrument import Instrument
from realtime.judge import Judge, permissions_named
from realtime.layers.backplane import Backplane
from realtime.members import MemberLists
from realtime.meter import Meter
from realtime.missed import MissedNotices
from realtime.neighbours import Neighbours
from realtime.occupancy import Occupancy
from realtime.orders import Orders
from realtime.protocol.envelope import (
    READS,
    Echo,
    Envelope,
    Goodbye,
    Health,
    Heartbeat,
    RosterChange,
    RosterChanges,
    Unwatch,
    Watch,
    encode,
)
from realtime.protocol.names import BROADCAST_GROUP, NODES_GROUP, echo_stem, group_of_user, node_channel, node_id_of
from realtime.receipts import Receipts
from realtime.refusals import Refusals
from realtime.signals import SignalQueue, joined, left
from realtime.stamp import Stamp
from realtime.streams import Streams
from realtime.subscriptions import Subscriptions
from realtime.tasks import TaskGroup
from realtime.throttle import Throttle
from realtime.trust import Gap, Trust

logger = logging.getLogger("realtime.node")

Published = asyncio.Future["int | None"]


class Node:
    """One process of the cluster. All methods belong to the event loop that ran ``start``."""

    def __init__(
        self,
        settings: Settings,
        backplane: Backplane,
        instrument: Instrument,
        *,
        on_heartbeat: Callable[[Heartbeat], None] = lambda heartbeat: None,
        on_node_died: Callable[[str], None] = lambda node_id: None,
        on_identified: Callable[[str, str | None, str], None] = lambda connection_id, user, label: None,
        on_survey: Callable[[str, list[str], float], None] = lambda own_id, heard, since: None,
        rows_pending: Callable[[], int] = lambda: 0,
        on_drain: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = node_id_of(settings.name_of_node, secrets.token_hex(3))
        self.settings = settings
        self.instrument = instrument
        self.backplane = backplane
        self.judge = Judge(permissions_named(settings.permissions), instrument)
        self.started_at = time.time()
        self.health: list[Health] = []
        """What its checks found last; set by whoever checks it."""
        self.hub = Hub()
        self.tasks = TaskGroup(self._task_failed)
        self.occupancy = Occupancy(self.id, self.hub, settings, instrument, self.tasks, clock)
        self.backlogs = Backlogs(settings, instrument, clock)
        self.expiry = Expiry(self.id, self.hub, settings, instrument, self.tasks, clock)
        self.refusals = Refusals(self.id, instrument, clock)
        self.throttle = Throttle(self.id, settings, instrument, clock)
        self.receipts = Receipts(settings.receipt_timeout_seconds)
        self.subscriptions = Subscriptions(backplane, self.tasks)
        self.deliverer = Deliverer(instrument, settings.deliver_slice_ms / 1000)
        gather = settings.members_interval_ms / 1000
        self.missed = MissedNotices(self.hub, instrument, node_channel(self.id), gather)
        self.neighbours = Neighbours(self, on_died=on_node_died, on_survey=on_survey, clock=clock)
        self.nodes = self.neighbours.table
        self.members = MemberLists(
            self.hub,
            ask=lambda rooms: self._publish(NODES_GROUP, Watch(v=self.version, node=self.id, rooms=rooms)),
            unask=lambda rooms: self._publish(NODES_GROUP, Unwatch(v=self.version, node=self.id, rooms=rooms)),
            tell=self._tell_members,
            others=lambda: self.nodes.others,
            pushed=instrument.messages_sent,
            interval_seconds=gather,
            timeout_seconds=settings.members_timeout_seconds,
        )
        self.trust = Trust(
            self.tasks,
            send_probe=self._send_probe,
            on_lost=self._trust_lost,
            on_restored=self._trust_restored,
            on_echo=instrument.echo_heard,
            echo_timeout_seconds=settings.publish_timeout_seconds,
            clock=clock,
        )
        self.meter = Meter(self.hub, instrument, clock, rows_pending)
        self.orders = Orders(self, on_drain)
        self.inquiries = Inquiries()
        self.signals = SignalQueue(settings.signals_pending_max, instrument)
        self.streams = Streams(self.id, lambda: self.version, self.publish_to, instrument)
        self._inbound = Inbound(self)
        self._stamp = Stamp()
        self._probe_groups: list[str] = []
        self._lifecycle = "starting"
        self.clock = clock
        self._on_heartbeat = on_heartbeat
        self.on_identified = on_identified

    # -- state -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """``starting``, ``ready``, ``interrupted`` (backplane not trusted), ``draining``, ``stopped`` or ``failed``."""
        if self._lifecycle != "running":
            return self._lifecycle
        return "ready" if self.trust.is_trusted else "interrupted"

    @property
    def is_ready(self) -> bool:
        """Whether a balancer should send clients here: heard its own echo lately, and not draining."""
        return self.state == "ready"

    @property
    def is_accepting(self) -> bool:
        """Whether new connections are let in. They are while the backplane is down: they are told what they miss."""
        return self._lifecycle in ("starting", "running")

    @property
    def version(self) -> int:
        """The envelope version to publish in: the highest that all live nodes read."""
        return self.nodes.envelope_version

    # -- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Subscribe, announce, and begin to beat. With the backplane down the node is up all the same, and waits."""
        is_subscribed = False
        try:
            await self.backplane.open(node_channel(self.id), self._inbound)
            is_subscribed = True
        except BackplaneUnavailable as error:
            logger.error(
                "backplane_unavailable node=%s backplane=%s error=%r hint=%r", self.id, self.backplane.name, str(error),
                "start the backplane, or set BACKPLANE_URL; the node goes on trying",
            )  # fmt: skip
        self._probe_groups = self.backplane.probe_groups(echo_stem(self.id))
        for group in (BROADCAST_GROUP, NODES_GROUP, *self._probe_groups):
            await self._hold(group)
        self.trust.begin(len(self._probe_groups), is_subscribed=is_subscribed)
        self.tasks.start("heartbeat", self._beat())
        self.tasks.start("judge", self.neighbours.judge())
        self.tasks.start("backlogs", self.backlogs.look())
        self.occupancy.start()
        self.expiry.start()
        self.tasks.start("loop watch", self.meter.watch_loop())

    def drain(self) -> None:
        """Take no more connections; those that are here go on until they are closed."""
        self._lifecycle = "draining"
        self._on_heartbeat(self.heartbeat())

    def _task_failed(self, name: str) -> None:
        if name in (
            "heartbeat",
            "judge",
            "backlogs",
            "restore",
            "idle",
            "memory",
            "evictions",
            "socketio",
            "expiry",
            "sessions",
        ):
            logger.critical("node_failed node=%s task=%s", self.id, name)
            self._lifecycle = "failed"  # readiness is red for good: the supervisor or operator must restart it

    async def stop(self) -> None:
        """Say goodbye and let go of the backplane. Connections must be closed before."""
        self._lifecycle = "stopped"
        if self.trust.is_trusted:
            await asyncio.wait([self.publish(NODES_GROUP, Goodbye(v=self.version, node=self.id))], timeout=1)
        self._on_heartbeat(self.heartbeat())
        self.trust.end()
        self.members.close()
        await self.tasks.cancel()
        await self.backplane.close()

    # -- publishing --------------------------------------------------------------------------------------------------

    def publish(self, group: str, envelope: Envelope) -> Published:
        """Publish to all nodes in ``group``; fails with BackplaneUnavailable when it is not known to be taken."""
        if not self.trust.is_trusted:
            return self._refused()
        if self._stamp.is_due:
            envelope = self._stamp.put(envelope)
        return self._handed_over(self.backplane.publish(group, encode(envelope)))

    def publish_to(self, node_id: str, envelope: Envelope) -> Published:
        """Publish to one node."""
        if not self.trust.is_trusted:
            return self._refused()
        return self._handed_over(self.backplane.publish_to(node_channel(node_id), encode(envelope)))

    def answer(self, channel: str, envelope: Envelope) -> Published:
        """Publish to the channel that an order named, a node's or that of a process without one."""
        if not self.trust.is_trusted:
            return self._refused()
        return self._handed_over(self.backplane.publish_to(channel, encode(envelope)))

    def _publish(self, group: str, envelope: Envelope) -> None:
        self.publish(group, envelope)

    def _handed_over(self, published: Published) -> Published:
        self.instrument.publication_published()
        published.add_done_callback(self._published)
        return published

    def _refused(self) -> Published:
        refused: Published = asyncio.get_running_loop().create_future()
        refused.set_exception(BackplaneUnavailable("the node does not hear its own echo"))
        refused.exception()  # whoever publishes may look at it, and need not
        self.instrument.publish_failed()
        return refused

    def _published(self, published: Published) -> None:
        if not published.cancelled() and published.exception() is not None:
            self.instrument.publish_failed()
            self.trust.lose()

    # -- rooms -------------------------------------------------------------------------------------------------------

    async def join(self, member: Member, name: str) -> None:
        """Put a connection into a room; on return nothing of it is missed. Raises BackplaneUnavailable."""
        group = Room(name).group
        if not self.trust.is_trusted:
            raise BackplaneUnavailable("the node does not hear its own echo")  # also where the group is held already
        await self.subscriptions.acquire(group)
        if member.id not in self.hub.connections or name in member.rooms:
            self.subscriptions.release(group)  # it went away meanwhile, or was in already
            return
        self.hub.join(member, name)
        self.members.joined(member, name)
        if joined.receivers:
            self.signals.put(joined, connection=member.id, user=member.user, room=name, node=self.id)

    def leave(self, member: Member, name: str) -> bool:
        """Take a connection out of a room: from now on it gets nothing of it. False when it was not in it."""
        room = self.hub.leave(member, name)
        if room is None:
            return False
        self.members.unwatch(member, name)
        self.members.left(member, name)
        if left.receivers:
            self.signals.put(left, connection=member.id, user=member.user, room=name, node=self.id)
        self.subscriptions.release(room.group)
        return True

    # -- connections -------------------------------------------------------------------------------------------------

    async def add(self, member: Member) -> None:
        """A connection is accepted; on return its user's private messages come here."""
        self.hub.add(member)
        self.backlogs.watch(member)
        self.expiry.watch(member)
        if member.user is not None:
            await self._welcome_user(member, member.user)

    async def identify(self, member: Member, user: str) -> None:
        """An anonymous connection turns out to be a user's; on return their private messages come here."""
        self.hub.identify(member, user)
        for name in member.rooms:
            self.members.joined(member, name)  # the same connection with another `user`
        await self._welcome_user(member, user)

    async def _welcome_user(self, member: Member, user: str) -> None:
        self.throttle.open_account(member, user)
        await self._hold(group_of_user(user))
        self.throttle.evict_if_over(member)

    def remove(self, member: Member) -> None:
        """A connection is gone: out of its rooms, out of the hub. Safe to call twice."""
        if member.id not in self.hub.connections:
            return
        for name in list(member.rooms):
            self.leave(member, name)
        self.hub.remove(member)
        self.expiry.forget(member)
        self.backlogs.forget(member)
        if member.user is not None:
            self.subscriptions.release(group_of_user(member.user))
        self.throttle.close_account(member)

    async def _hold(self, group: str) -> None:
        try:
            await self.subscriptions.acquire(group, keep_on_failure=True)
        except BackplaneUnavailable:
            return  # remembered: subscribed with the next recovery, and then told what may be missing

    # -- other nodes -------------------------------------------------------------------------------------------------

    def may_be_alive(self, node_id: str) -> bool:
        """Whether a node is alive as far as this node can know; a young node does not know everybody yet."""
        return node_id in self.nodes or time.time() - self.started_at < self.settings.heartbeat_seconds

    def heartbeat(self) -> Heartbeat:
        """What this node tells the others about itself; in the oldest version, as it is what they agree on one by."""
        return Heartbeat(
            v=READS[0],
            node=self.id,
            address=self.settings.node_address,
            version=__version__,
            reads=list(READS),
            started=self.started_at,
            state=self.state,
            statistics=self.meter.figures(),
            health=self.health,
        )

    async def _beat(self) -> None:
        """1. judge the last echo and probe again; 2. announce, with the latest figures; 3. wait, a little unevenly, so
        that the nodes of a cluster do not beat in time; 4. give up streams to nodes that never beat; 5. take new
        figures. A node that said goodbye is silent."""
        await self.meter.look()
        while self._lifecycle != "stopped":
            self.trust.beat()
            self._on_heartbeat(self.heartbeat())
            self.neighbours.announce()
            await asyncio.sleep(self.settings.heartbeat_seconds * random.uniform(0.9, 1.1))
            self.streams.look(self.may_be_alive)
            await self.meter.look()

    def _tell_members(self, node_id: str, changes: list[RosterChange]) -> None:
        self.publish_to(node_id, RosterChanges(v=self.version, node=self.id, changes=changes))

    # -- trust -------------------------------------------------------------------------------------------------------

    def _send_probe(self, shard: int, nonce: int) -> None:
        probe = self.backplane.publish(
            self._probe_groups[shard], encode(Echo(v=self.version, shard=shard, nonce=nonce))
        )
        probe.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _trust_lost(self) -> None:
        self.nodes.echo_lost()
        self.streams.interrupted()
        self.instrument.backplane_interrupted()
        logger.warning("backplane_interrupted node=%s backplane=%s", self.id, self.backplane.name)
        self._on_heartbeat(self.heartbeat())

    def _trust_restored(self, gap: Gap, seconds: float) -> None:
        if self._lifecycle == "starting":
            self._lifecycle = "running"
        self.nodes.echo_back(self.clock())
        self.instrument.backplane_restored(seconds)
        logger.info("node_ready node=%s backplane=%s after_seconds=%.3f", self.id, self.backplane.name, seconds)
        self._on_heartbeat(self.heartbeat())
        self.neighbours.announce(was_interrupted=True)
        self.members.ask_again()
        self.expiry.ask_all()
        if gap is None or gap:
            self.missed.tell(gap)
