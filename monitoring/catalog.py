"""Every metric of ours: its name, type, meaning, and where its value is read.

docs/metrics.md says what to do when it is bad. The first five are the reference design's, with its names,
types and buckets. No label names a room or a user: their number has no bound.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from monitoring.metrics import PrometheusInstrument
from realtime import __version__
from realtime.node import Node
from realtime.statistics import Histogram

Value = float | Histogram | Mapping[str, float] | Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sources:
    """What a scrape reads. ``loop_lag`` is None when there is no loop to ask."""

    instrument: PrometheusInstrument
    node: Node | None
    tracking_pending: int
    loop_lag: float | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. ``label`` names the key of a value by key. An info's value is its labels; no value, no sample."""

    name: str
    kind: str  # "gauge", "counter", "histogram" or "info"
    meaning: str
    read: Callable[[Sources], Value | None]
    label: str = ""


def _counted(read: Callable[[PrometheusInstrument], Value]) -> Callable[[Sources], Value]:
    return lambda sources: read(sources.instrument)


def _of_node(read: Callable[[Node], float]) -> Callable[[Sources], float]:
    """A gauge that is 0 while there is no node."""
    return lambda sources: 0 if sources.node is None else read(sources.node)


def _backlog(node: Node) -> float:
    # A list, at once: the loop may change the dict while this thread looks.
    return sum(member.writer.backlog for member in list(node.hub.connections.values()))


def _node_info(sources: Sources) -> Mapping[str, str] | None:
    node = sources.node
    return None if node is None else {"node": node.id, "backplane": node.backplane.name}


METRICS: tuple[Metric, ...] = (
    Metric("websocket_connected_clients", "gauge", "Connections on this node.", _of_node(lambda node: len(node.hub))),
    Metric(
        "websocket_messages_received_total", "counter", "Messages that clients sent.", _counted(lambda i: i.commands)
    ),
    Metric(
        "websocket_messages_sent_total",
        "counter",
        "Messages handed to the sockets of clients, replies included.",
        _counted(lambda i: i.deliveries + i.other_sent),
    ),
    Metric(
        "websocket_connection_duration_seconds",
        "histogram",
        "How long connections lasted that have ended.",
        _counted(lambda i: i.durations),
    ),
    Metric(
        "websocket_message_latency_seconds",
        "histogram",
        "From the arrival of a client's message to the end of its handling.",
        _counted(lambda i: i.latencies),
    ),
    Metric(
        "realtime_connections_opened_total",
        "counter",
        "Connections accepted.",
        _counted(lambda i: i.opened),
        "transport",
    ),
    Metric(
        "realtime_connections_closed_total",
        "counter",
        "Connections that ended, by close code; codes of a client's own invention are `other`.",
        _counted(lambda i: i.closed),
        "code",
    ),
    Metric(
        "realtime_connections_refused_total",
        "counter",
        "Handshakes refused, by reason.",
        _counted(lambda i: i.refused),
        "reason",
    ),
    Metric(
        "realtime_operator_pages_refused_total",
        "counter",
        "Requests for an operators' page without the right to it, by page.",
        _counted(lambda i: i.operator_pages_refused),
        "page",
    ),
    Metric(
        "realtime_connections_evicted_total",
        "counter",
        "Connections that the server ended, by reason.",
        _counted(lambda i: i.evicted),
        "reason",
    ),
    Metric(
        "realtime_authentications_refused_total",
        "counter",
        "Tokens that were not taken, by reason.",
        _counted(lambda i: i.unbelieved),
        "reason",
    ),
    Metric(
        "realtime_session_checks_failed_total",
        "counter",
        "Looks at sessions or users that the database or the cache did not answer.",
        _counted(lambda i: i.session_checks_failed),
    ),
    Metric(
        "realtime_revocations_failed_total",
        "counter",
        "Sessions or users that ended, and of which the nodes could not be told.",
        _counted(lambda i: i.revocations_failed),
    ),
    Metric(
        "realtime_errors_total", "counter", "Commands refused, by error code.", _counted(lambda i: i.errors), "code"
    ),
    Metric(
        "realtime_rate_limited_total",
        "counter",
        "Commands that were over a rate, by limit.",
        _counted(lambda i: i.limited),
        "limit",
    ),
    Metric(
        "realtime_rate_sources",
        "gauge",
        "Addresses and users whose spending is remembered, by kind.",
        lambda s: {} if s.node is None else s.node.throttle.remembered,
        "kind",
    ),
    Metric(
        "realtime_requests_cut_total",
        "counter",
        "Requests that were not waited for, or not read to their end, by reason.",
        _counted(lambda i: i.cut),
        "reason",
    ),
    Metric("realtime_handler_failures_total", "counter", "Handlers that raised.", _counted(lambda i: i.failures)),
    Metric(
        "realtime_clients_held_back_total",
        "counter",
        "How often a client was not read for a while, because its messages waited.",
        _counted(lambda i: i.held_back),
    ),
    Metric(
        "realtime_received_bytes_total", "counter", "Bytes of clients' messages.", _counted(lambda i: i.received_bytes)
    ),
    Metric(
        "realtime_sent_bytes_total",
        "counter",
        "Bytes of the messages handed to sockets.",
        _counted(lambda i: i.sent_bytes),
    ),
    Metric(
        "realtime_connections_max",
        "gauge",
        "Connections that this node takes, its CONNECTIONS_MAX.",
        _of_node(lambda node: node.settings.connections_max),
    ),
    Metric(
        "realtime_memory_over",
        "gauge",
        "1 while the node held more memory than MEMORY_MAX_BYTES at its last look.",
        _of_node(lambda node: node.occupancy.memory.is_over),
    ),
    Metric("realtime_backlog_bytes", "gauge", "Bytes that wait for clients to read them.", _of_node(_backlog)),
    Metric(
        "realtime_users", "gauge", "Users with a connection on this node.", _of_node(lambda node: len(node.hub.users))
    ),
    Metric("realtime_rooms", "gauge", "Rooms with a member on this node.", _of_node(lambda node: node.hub.room_count)),
    Metric(
        "realtime_publications_published_total",
        "counter",
        "Envelopes handed to the backplane.",
        _counted(lambda i: i.published),
    ),
    Metric(
        "realtime_publish_failures_total",
        "counter",
        "Envelopes that the backplane is not known to have taken.",
        _counted(lambda i: i.publish_failures),
    ),
    Metric(
        "realtime_envelopes_received_total",
        "counter",
        "Envelopes that came from the backplane.",
        _counted(lambda i: i.envelopes),
    ),
    Metric(
        "realtime_batch_envelopes",
        "histogram",
        "Envelopes that came from the backplane in one read.",
        _counted(lambda i: i.batches),
    ),
    Metric(
        "realtime_envelopes_unreadable_total",
        "counter",
        "Envelopes that this version could not read, and skipped.",
        _counted(lambda i: i.unreadable),
    ),
    Metric(
        "realtime_publications_delivered_total",
        "counter",
        "Publications that were delivered on this node.",
        _counted(lambda i: i.delivered),
    ),
    Metric(
        "realtime_deliveries_total",
        "counter",
        "Messages to clients that publications made.",
        _counted(lambda i: i.deliveries),
    ),
    Metric(
        "realtime_delivery_lag_seconds",
        "histogram",
        "From the publication of a message on any node to its delivery on this one; about ten a second of each node.",
        _counted(lambda i: i.lags),
    ),
    Metric(
        "realtime_echo_seconds",
        "histogram",
        "How long what the node says to itself takes through the backplane, on all shards.",
        _counted(lambda i: i.echoes),
    ),
    Metric(
        "realtime_backplane_up",
        "gauge",
        "1 while the node hears its own echo through the backplane.",
        _of_node(lambda node: node.trust.is_trusted),
    ),
    Metric(
        "realtime_backplane_interruptions_total",
        "counter",
        "How often the node lost its trust in the backplane.",
        _counted(lambda i: i.interruptions),
    ),
    Metric(
        "realtime_backplane_outage_seconds_total",
        "counter",
        "How long the interruptions lasted that are over.",
        _counted(lambda i: i.outage_seconds),
    ),
    Metric(
        "realtime_backplane_reconnects_total",
        "counter",
        "Connections to the backplane that had to be made again.",
        _of_node(lambda node: node.backplane.stats.reconnects),
    ),
    Metric(
        "realtime_backplane_lag_messages",
        "gauge",
        "Messages on the backplane that the node has not read yet (Kafka only).",
        _of_node(lambda node: node.backplane.stats.lag),
    ),
    Metric(
        "realtime_backplane_dropped_total",
        "counter",
        "Envelopes that the channel layer dropped.",
        _counted(lambda i: i.dropped),
    ),
    Metric(
        "realtime_missed_notices_total",
        "counter",
        "Connections that were told that they may have missed something.",
        _counted(lambda i: i.missed_notices),
    ),
    Metric(
        "realtime_socketio_sessions_total",
        "counter",
        "Socket.IO sessions that began, by transport; `upgrade`: that changed to a WebSocket.",
        _counted(lambda i: i.sessions),
        "transport",
    ),
    Metric(
        "realtime_socketio_carried_total",
        "counter",
        "Requests of Socket.IO clients that were carried to the node of their session, by kind.",
        _counted(lambda i: i.carried),
        "kind",
    ),
    Metric(
        "realtime_socketio_streams_overflown_total",
        "counter",
        "Carried requests that ended because too much of them waited.",
        _counted(lambda i: i.streams_overflown),
    ),
    Metric(
        "realtime_node_ready", "gauge", "1 while balancers should send clients here.", _of_node(lambda n: n.is_ready)
    ),
    Metric(
        "realtime_check_healthy",
        "gauge",
        "1 while a health check of the node passes.",
        lambda s: {} if s.node is None else {found.check: found.is_healthy for found in s.node.health},
        "check",
    ),
    Metric(
        "realtime_nodes",
        "gauge",
        "Live nodes that this node knows, itself included.",
        _of_node(lambda node: len(node.nodes) + 1),
    ),
    Metric("realtime_nodes_died_total", "counter", "Nodes that this node took for dead.", _counted(lambda i: i.died)),
    Metric("realtime_tracking_pending_rows", "gauge", "Rows that wait for the database.", lambda s: s.tracking_pending),
    Metric(
        "realtime_tracking_lost_rows_total",
        "counter",
        "Rows that could not be written and were given up.",
        _counted(lambda i: i.rows_lost),
    ),
    Metric(
        "realtime_signals_pending",
        "gauge",
        "Django signals that wait for their receivers.",
        _of_node(lambda node: node.signals.pending),
    ),
    Metric(
        "realtime_signals_dropped_total",
        "counter",
        "Django signals that found no room and were dropped.",
        _counted(lambda i: i.signals_lost),
    ),
    Metric(
        "realtime_signal_failures_total",
        "counter",
        "Receivers of Django signals that raised.",
        _counted(lambda i: i.signal_failures),
    ),
    Metric(
        "realtime_loop_lag_seconds",
        "gauge",
        "How long the event loop took to get to the scrape's question; 1 s at most.",
        lambda sources: sources.loop_lag,
    ),
    Metric(
        "realtime_loop_delay_seconds",
        "histogram",
        "How late the event loop did something, asked ten times a second.",
        _counted(lambda i: i.loop_delays),
    ),
    Metric("realtime_node_info", "info", "Which node this is; the value is always 1.", _node_info),
    Metric(
        "realtime_build_info",
        "info",
        "Which version this is; the value is always 1.",
        lambda sources: {"version": __version__, "python": platform.python_version()},
    ),
)
