"""What a cluster's database says, read as anybody else would."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from tests.acceptance.client import Client
from tests.support.cluster import Cluster

FAST = {
    "REALTIME_HEARTBEAT_SECONDS": "0.5",
    "REALTIME_NODE_TIMEOUT_SECONDS": "4",
    "REALTIME_TRACKING_FLUSH_SECONDS": "0.2",
    "REALTIME_TRACKING_REFRESH_SECONDS": "0.5",
}
"""A quarter of the default times, or less."""


class Row(NamedTuple):
    """A connection."""

    node: str
    is_live: bool
    close_code: int | None
    close_reason: str
    user: str
    messages_in: int
    rooms: int


LIVE = (True, None, "")
DIED = (False, 1006, "node died")


def end_of(row: Row) -> tuple[bool, int | None, str]:
    """Whether it is live, and how it ended if not: LIVE, DIED, or another end."""
    return row.is_live, row.close_code, row.close_reason


def connection_rows(cluster: Cluster) -> dict[str, Row]:
    """By connection id."""
    sql = (
        "SELECT id, node, disconnected IS NULL, close_code, close_reason, user_label, messages_in, rooms"
        " FROM realtime_connection"
    )
    return {
        key: Row(node, bool(is_live), *others)
        for key, node, is_live, *others in _query(cluster, sql)
    }  # fmt: skip


def ends(cluster: Cluster, clients: Iterable[Client]) -> set[tuple[bool, int | None, str]]:
    """How the rows of these clients are, together."""
    rows = connection_rows(cluster)
    return {end_of(rows[client.id]) if client.id in rows else (False, None, "no row") for client in clients}


def node_states(cluster: Cluster) -> dict[str, str]:
    """By node id."""
    return dict(_query(cluster, "SELECT id, state FROM realtime_node"))


def _query(cluster: Cluster, sql: str) -> list[tuple]:
    with contextlib.closing(sqlite3.connect(f"file:{cluster.database}?mode=ro", uri=True, timeout=10)) as database:
        return database.execute(sql).fetchall()
