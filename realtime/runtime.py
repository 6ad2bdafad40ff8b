"""The one node of this process: built from the settings, started and stopped with the server."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from typing import Any

from realtime import conf
from realtime.connection import Connection
from realtime.exceptions import NodeNotRunning
from realtime.instrument import Instrument
from realtime.layers.backplane import backplane_for
from realtime.limits import BacklogLimit
from realtime.logs import speak_as
from realtime.node import Node
from realtime.origins import OriginRules, read_allowed
from realtime.progress import keep_rows_fresh, tell_who_lives
from realtime.protocol.closing import SERVICE_RESTART
from realtime.protocol.envelope import Heartbeat
from realtime.proxies import TrustedProxies
from realtime.server.lifecycle import Address
from realtime.signals import connected, disconnected
from realtime.tracking import ConnectionFacts, NodeFacts, NullTracker, Tracker

logger = logging.getLogger("realtime.runtime")

Companion = Callable[[Node], Coroutine[Any, Any, None]]

BATCH_PAUSE_SECONDS = 0.02
"""Between two batches of a drain: others get their turn, and clients do not all reconnect at the same moment."""
STOP_SECONDS = 6.0
"""What of the drain's deadline is left for stopping the node and writing its rows."""


class Runtime:
    """The life of the node of this process; the server's hooks call it."""

    def __init__(self) -> None:
        self.instrument = Instrument()
        self.node: Node | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.tracker: NullTracker = NullTracker()
        self.find_address: Callable[[], Address | None] = lambda: None
        """Where this process accepts clients without TLS; set by the hooks of servers that can tell."""
        self.probe_secret = secrets.token_urlsafe(32)
        """With this a WebSocket of the process to itself is told from those of clients (``realtime.probe``)."""
        self._companions: dict[str, Companion] = {}
        self.on_drain = send_own_signal
        """What an order to drain does: the server's hooks wait for the signal."""
        self.clock: Callable[[], float] = time.monotonic
        self.owns_process = True
        """False in a test: the process is not there for the node."""
        self._settings: conf.Settings | None = None
        self._own_facts: NodeFacts | None = None
        self._open = 0
        self._all_closed = asyncio.Event()
        self._drain_began = 0.0
        self._starting: asyncio.Task[None] | None = None

    @property
    def settings(self) -> conf.Settings:
        """The settings of this process, read once."""
        if self._settings is None:
            self._settings = conf.current()
        return self._settings

    @cached_property
    def backlog_limit(self) -> BacklogLimit:
        """One for all writers."""
        settings = self.settings
        return BacklogLimit(settings.backlog_max_bytes, settings.backlog_grace_seconds, settings.backlog_hard_max_bytes)

    @cached_property
    def proxies(self) -> TrustedProxies:
        """Whose word about clients counts."""
        return TrustedProxies(self.settings.trusted_proxies)

    @cached_property
    def origin_rules(self) -> OriginRules:
        """Which pages may connect."""
        settings = self.settings
        named = [read_allowed(each) for each in settings.allowed_origins]
        return OriginRules(
            is_own_host=conf.is_own_host,
            allowed=frozenset(site for site in named if site is not None),
            any_is_allowed=None in named,
            null_is_allowed=settings.origin_null_is_allowed,
            missing_is_allowed=settings.origin_missing_is_allowed,
        )

    def reload_settings(self) -> None:
        """Read the settings again at their next use; while no node runs."""
        self._settings = None
        for name in ("backlog_limit", "origin_rules", "proxies"):
            self.__dict__.pop(name, None)

    def accompany(self, name: str, companion: Companion) -> None:
        """Run ``companion`` beside each node that starts from now on, as one of its background tasks."""
        self._companions[name] = companion

    async def start(self) -> None:
        """Build and start the node; a second call waits for the first."""
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start(), name="start node")
        await asyncio.shield(self._starting)

    async def _start(self) -> None:
        from channels.layers import channel_layers

        settings = self.settings
        tracker = self._new_tracker()
        node = Node(
            settings,
            backplane_for(channel_layers[settings.layer]),
            self.instrument,
            on_heartbeat=self._heartbeat,
            on_node_died=tracker.node_died,
            on_identified=tracker.connection_identified,
            on_survey=tracker.nodes_surveyed,
            rows_pending=lambda: tracker.pending,
            on_drain=self.on_drain,
            clock=self.clock,
        )
        self.tracker, self.node, self.loop = tracker, node, asyncio.get_running_loop()
        speak_as(node.id)
        await tracker.start()
        logger.info("node_starting node=%s backplane=%s", node.id, node.backplane.name)
        await node.start()
        if settings.tracking_is_on:
            refresh = keep_rows_fresh(node.hub, tracker, settings.tracking_refresh_seconds)
            node.tasks.start("refresh rows", refresh)
        for name, companion in self._companions.items():
            node.tasks.start(name, companion(node))
        if self.owns_process:
            spare_the_loop_collections()

    def _new_tracker(self) -> NullTracker:
        if not self.settings.tracking_is_on:
            return NullTracker()
        return Tracker(
            flush_seconds=self.settings.tracking_flush_seconds,
            pending_max=self.settings.tracking_pending_max,
            instrument=self.instrument,
            on_taken_for_dead=self._taken_for_dead,
        )

    def _taken_for_dead(self) -> None:
        if self.node is not None:
            logger.warning("node_taken_for_dead node=%s connections=%d", self.node.id, len(self.node.hub))
            self.node.tasks.start("reopen rows", tell_who_lives(self.node.hub, self.tracker))

    def begin_drain(self) -> None:
        """Readiness turns red; no new connections."""
        self._drain_began = time.monotonic()
        if self.node is not None:
            self.node.drain()

    async def close_connections(self) -> None:
        """Close every client with 1012, in paced batches, and wait until they have read what was written before.

        The server cuts those that do not read; those that do have until the deadline comes near.
        """
        node = self.node
        if node is None:
            return
        logger.info("draining node=%s connections=%d", node.id, len(node.hub))
        while node.hub.connections:
            for member in list(islice(node.hub.connections.values(), self.settings.drain_batch_connections)):
                member.evict(SERVICE_RESTART)
                self.instrument.connection_evicted(SERVICE_RESTART)
            await asyncio.sleep(BATCH_PAUSE_SECONDS)
        if self._open:
            self._all_closed.clear()
            left = self._drain_began + self.settings.drain_deadline_seconds - STOP_SECONDS - time.monotonic()
            try:
                async with asyncio.timeout(max(left, 1.0)):
                    await self._all_closed.wait()
            except TimeoutError:
                logger.warning("drain_incomplete node=%s connections=%d", node.id, self._open)

    async def stop(self) -> None:
        """Stop the node and write the rows that wait."""
        starting, self._starting = self._starting, None
        if starting is not None and not starting.done():
            starting.cancel()
            await asyncio.wait([starting])
        node = self.node
        if node is None:
            return
        began = time.monotonic()
        await node.signals.stop()  # first, since receivers may publish
        await node.stop()
        await self.tracker.stop(max(STOP_SECONDS - 1.0 - (time.monotonic() - began), 1.0))
        logger.info("node_stopped node=%s", node.id)
        self.node = self.loop = self._own_facts = None

    def misused(self, reason: str, who: str) -> None:
        """A server closed a connection from ``who`` for its frames."""
        if self.node is not None:
            self.node.throttle.closed(reason, who)

    def request_cut(self, reason: str) -> None:
        """A server did not wait for a request, or did not read all of it."""
        self.instrument.request_cut(reason)
        if self.node is not None:
            self.node.throttle.cut(reason)

    # -- connections -------------------------------------------------------------------------------------------------

    def connection_opened(self, connection: Connection, facts: ConnectionFacts) -> None:
        """A client was accepted."""
        self._open += 1
        self.tracker.connection_opened(facts)
        self.instrument.connection_opened(connection.transport)
        logger.info(
            "connection_opened id=%s user=%s address=%s transport=%s",
            connection.id, connection.user, facts.remote_address, connection.transport,
        )  # fmt: skip
        if connected.receivers:
            connection.node.signals.put(
                connected, connection=connection.id, user=connection.user, node=connection.node.id,
                transport=connection.transport, remote_address=facts.remote_address, path=facts.path,
            )  # fmt: skip

    def connection_closed(self, connection: Connection, code: int, violation: str = "") -> None:
        """A client is gone. ``code`` is what the socket ended with; ``violation``: why, if it was one."""
        self._open -= 1
        now = time.time()
        close = connection.close_sent
        code = close.code if close is not None else code
        seconds = now - connection.opened_at
        reason = close.reason if close is not None else violation
        self.tracker.connection_closed(
            connection.id,
            code=code,
            reason=reason,
            at=now,
            last_seen=now - (connection.node.clock() - connection.last_active),
            messages_in=connection.messages_in,
            messages_out=connection.writer.messages_out,
            bytes_in=connection.bytes_in,
            bytes_out=connection.writer.bytes_out,
            rooms=connection.rooms_at_end,
        )
        self.instrument.connection_closed(connection.transport, code, seconds)
        if disconnected.receivers:
            _tell_end(connection, code, seconds)
        logger.info(
            "connection_closed id=%s user=%s code=%d reason=%r address=%s transport=%s seconds=%.3f"
            " messages_in=%d messages_out=%d bytes_in=%d bytes_out=%d rooms=%d",
            connection.id, connection.user, code, reason, connection.address, connection.transport, seconds,
            connection.messages_in, connection.writer.messages_out,
            connection.bytes_in, connection.writer.bytes_out, connection.rooms_at_end,
        )  # fmt: skip
        if self._open == 0:
            self._all_closed.set()

    def _heartbeat(self, heartbeat: Heartbeat) -> None:
        self._own_facts = _facts_of(heartbeat, time.time())
        self.tracker.node_seen(self._own_facts)

    def heard(self) -> list[NodeFacts]:
        """Every live node as its last heartbeat described it, this one included; none without a node. In any thread."""
        node, own = self.node, self._own_facts
        if node is None or own is None:
            return []
        then = time.time() - node.clock()
        # A list, at once: the loop may change the table while this thread looks.
        return [own, *(_facts_of(other.heartbeat, then + other.heard_at) for other in list(node.nodes))]


def _facts_of(heartbeat: Heartbeat, at: float) -> NodeFacts:
    return NodeFacts(
        id=heartbeat.node,
        address=heartbeat.address,
        version=heartbeat.version,
        started=heartbeat.started,
        last_heartbeat=at,
        state=heartbeat.state,
        statistics=heartbeat.statistics,
        health=heartbeat.health,
    )


def _tell_end(connection: Connection, code: int, seconds: float) -> None:
    close = connection.close_sent
    connection.node.signals.put(
        disconnected, connection=connection.id, user=connection.user, node=connection.node.id,
        code=code, reason=close.reason if close is not None else "", seconds=seconds,
    )  # fmt: skip


GC_THRESHOLDS = (5_000, 2, 2_500)
"""Python's own (700, 10, 10) make a full collection while some thousand clients connect. The first number bounds what a
collection of young objects looks at (half a microsecond each), the first two multiplied that of the next generation."""


def spare_the_loop_collections() -> None:
    """Make full garbage collections rare: each looks at every object of every connection, 50 ms for each thousand of
    them, in which nobody is served.

    What is there at the start (Django and others) is looked at no more. Connections are freed by their reference
    counts; what circles remain wait longer, and go at once when memory is short.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def send_own_signal() -> None:
    """Begin to stop, by the same door as an operator's SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


_runtime = Runtime()


def runtime() -> Runtime:
    """The runtime of this process."""
    return _runtime


def current_node() -> Node | None:
    """The node of this process; None while there is none."""
    return _runtime.node


def require_node() -> Node:
    """The node of this process. Raises NodeNotRunning."""
    if _runtime.node is None:
        raise NodeNotRunning("this process has no running node")
    return _runtime.node


def set_instrument(instrument: Instrument) -> None:
    """Record facts with ``instrument`` from now on; call before the node starts."""
    _runtime.instrument = instrument


@contextmanager
def stand_in(process: Runtime) -> Iterator[None]:
    """Let ``process`` be the runtime of this process for the time of a test."""
    global _runtime
    before, _runtime = _runtime, process
    try:
        yield
    finally:
        _runtime = before


def _forget_parent() -> None:
    """A forked child has the parent's objects but not its loop: the node stays the parent's."""
    global _runtime
    parent = _runtime
    _runtime = Runtime()
    _runtime.instrument = parent.instrument
    for name, companion in parent._companions.items():
        _runtime.accompany(name, companion)


os.register_at_fork(after_in_child=_forget_parent)
