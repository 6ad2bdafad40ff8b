"""How pending rows get into the database: in bulk, in one transaction, from whichever thread calls.

Connections are written by ``executemany`` of two prepared statements instead of model instances: the writing
thread shares the interpreter with the loop, and this holds the interpreter for a quarter of the time. Both
statements are the same in SQLite and PostgreSQL.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from realtime.facts import ConnectionEnd, ConnectionFacts, NodeFacts, PendingRows
from realtime.models import ENDED_STATES, Connection, Node, NodeSample, NodeState

logger = logging.getLogger("realtime.tracking")

SAMPLE_SECONDS = 30
"""A node leaves one point of its time series for each span of that length: 2,880 a day."""

DIED_CODE = 1006
DIED_REASON = "node died"
STOPPED_REASON = "node stopped"

_REFUSALS = (DataError, IntegrityError, OverflowError, TypeError, ValueError)

_ENDING = (
    "last_seen",
    "disconnected",
    "close_code",
    "close_reason",
    "messages_in",
    "messages_out",
    "bytes_in",
    "bytes_out",
    "rooms",
)
_OPENING = (
    "id",
    "node",
    "user",
    "user_label",
    "transport",
    "remote_address",
    "user_agent",
    "path",
    "connected",
)


def database_alias() -> str:
    """The database that these rows go to."""
    return router.db_for_write(Connection) or "default"


def missing_tables() -> list[str]:
    """Tables of ours that the database does not have: it is not migrated."""
    present = set(connections[database_alias()].introspection.table_names())
    return [model._meta.db_table for model in (Node, NodeSample, Connection) if model._meta.db_table not in present]


def write_what_is_accepted(rows: PendingRows) -> int:
    """Write ``rows``; the number of those that the database refuses for what is in them, found by halving."""
    try:
        write(rows)
    except _REFUSALS as error:
        if len(rows) == 1:
            logger.error("tracking_row_refused error=%r", f"{type(error).__name__}: {error}")
            return 1
        return sum(write_what_is_accepted(half) for half in rows.halves())
    return 0


def release(*, is_broken: bool) -> None:
    """Let go of this thread's database connection, as far as CONN_MAX_AGE says so."""
    database = connections[database_alias()]
    if is_broken:
        database.close()
    else:
        database.close_if_unusable_or_obsolete()


def write(rows: PendingRows) -> None:
    """Write all of ``rows`` in one transaction, or none.

    1. Deaths: ``state`` goes to dead by one conditional UPDATE; whoever changed it closes the node's
       connections.
    2. Nodes, and a sample of each.
    3. Connections that opened (again), with their end if they have one; then the ends of those written
       earlier.
    4. A node that stopped has no live connections: whatever end was lost is made up.
    """
    alias = database_alias()
    database = connections[alias]
    with transaction.atomic(using=alias):
        for node_id, at in rows.deaths.items():
            _write_death(alias, node_id, at)
        _write_nodes(alias, list(rows.nodes.values()))
        statements = _Statements(database)
        with database.cursor() as cursor:
            for sql, parameters in statements.of(rows):
                cursor.executemany(sql, parameters)
        for node in rows.nodes.values():
            if node.state == NodeState.STOPPED:
                _close_connections(alias, node.id, node.last_heartbeat, STOPPED_REASON)


def _write_death(alias: str, node_id: str, at: float) -> None:
    died = Node.objects.using(alias).filter(id=node_id, last_heartbeat__lte=_moment(at)).exclude(state__in=ENDED_STATES)
    if died.update(state=NodeState.DEAD):
        _close_connections(alias, node_id, at, DIED_REASON)


def _close_connections(alias: str, node_id: str, at: float, reason: str) -> None:
    live = Connection.objects.using(alias).filter(node=node_id, disconnected__isnull=True)
    live.update(disconnected=_moment(at), close_code=DIED_CODE, close_reason=reason)


def _write_nodes(alias: str, nodes: Sequence[NodeFacts]) -> None:
    if not nodes:
        return
    Node.objects.using(alias).bulk_create(
        [
            Node(
                id=node.id,
                address=_text(Node, "address", node.address),
                version=_text(Node, "version", node.version),
                started=_moment(node.started),
                last_heartbeat=_moment(node.last_heartbeat),
                state=node.state,
                statistics=dict(node.statistics),
            )
            for node in nodes
        ],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["address", "version", "started", "last_heartbeat", "state", "statistics"],
    )
    NodeSample.objects.using(alias).bulk_create(
        [
            NodeSample(
                node=node.id,
                at=_moment(node.last_heartbeat // SAMPLE_SECONDS * SAMPLE_SECONDS),
                statistics=dict(node.statistics),
            )
            for node in nodes
        ],
        ignore_conflicts=True,
    )


class _Statements:
    """The two statements that write connections, for one database, and the parameters of each row."""

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        quote = database.ops.quote_name
        table = quote(Connection._meta.db_table)
        column = {name: quote(str(_field(Connection, name).column)) for name in (*_OPENING, *_ENDING)}
        names = (*_OPENING, *_ENDING)
        renewed = ", ".join(f"{column[name]} = EXCLUDED.{column[name]}" for name in names if name != "id")
        self._upsert = (
            f"INSERT INTO {table} ({', '.join(column[name] for name in names)})"
            f" VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT ({column['id']}) DO UPDATE SET {renewed}"
        )
        ending = ", ".join(f"{column[name]} = %s" for name in _ENDING)
        self._end = f"UPDATE {table} SET {ending} WHERE {column['id']} = %s"
        self._database = database
        self._users: models.ForeignKey[Any, Any] = Connection._meta.get_field("user")

    def of(self, rows: PendingRows) -> Iterable[tuple[str, list[tuple[Any, ...]]]]:
        """Each statement that has something to do, with its parameters."""
        upserts = [
            (*self._opening(row.opened), *self._ending(row.ended, row.opened.connected))
            for row in rows.connections.values()
            if row.opened is not None
        ]
        ends = [
            (*self._ending(row.ended, 0), connection_id)
            for connection_id, row in rows.connections.items()
            if row.opened is None
        ]
        return [(sql, parameters) for sql, parameters in ((self._upsert, upserts), (self._end, ends)) if parameters]

    def _opening(self, facts: ConnectionFacts) -> tuple[Any, ...]:
        return (
            facts.id,
            facts.node,
            self._user(facts.user),
            _text(Connection, "user_label", facts.user_label),
            _text(Connection, "transport", facts.transport),
            _text(Connection, "remote_address", facts.remote_address),
            _text(Connection, "user_agent", facts.user_agent),
            _text(Connection, "path", facts.path),
            self._adapt(facts.connected),
        )

    def _ending(self, end: ConnectionEnd | None, connected: float) -> tuple[Any, ...]:
        if end is None:
            return (self._adapt(connected), None, None, "", 0, 0, 0, 0, 0)
        return (
            self._adapt(end.last_seen),
            self._adapt(end.at),
            end.code,
            _text(Connection, "close_reason", end.reason),
            end.messages_in,
            end.messages_out,
            end.bytes_in,
            end.bytes_out,
            end.rooms,
        )

    def _adapt(self, at: float) -> Any:
        return self._database.ops.adapt_datetimefield_value(_moment(at))

    def _user(self, user: str | None) -> Any:
        """The user's key as the column wants it; None for a name that can be no key of the user model."""
        if user is None:
            return None
        try:
            key = self._users.to_python(user)
            self._users.target_field.run_validators(key)
            return self._users.get_db_prep_save(key, self._database)
        except (ValidationError, ValueError, OverflowError):
            return None


def _moment(seconds: float) -> datetime:
    zone: tzinfo | None = UTC if settings.USE_TZ else None
    return datetime.fromtimestamp(seconds, zone)


def _text(model: type[models.Model], name: str, value: str) -> str:
    """``value`` as any database takes it: cut to the column, without NUL and lone surrogates."""
    limit = _field(model, name).max_length
    if not value.isascii():
        value = value.encode("utf-8", "replace").decode("utf-8")
    return value.replace("\0", "")[:limit]


@cache
def _field(model: type[models.Model], name: str) -> models.Field[Any, Any]:
    field = model._meta.get_field(name)
    if not isinstance(field, models.Field):
        raise TypeError(f"{model.__name__}.{name} is no column")
    return field
