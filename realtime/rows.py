"""How pending rows get into the database: in bulk, in one transaction, from whichever thread calls.

Connections are written by ``executemany`` of a few prepared statements instead of model instances: the writing
thread shares the interpreter with the loop, and this holds the interpreter for a quarter of the time. The
statements are the same in SQLite and PostgreSQL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from functools import cache, partial
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import DataError, IntegrityError, connections, models, reset_queries, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Value
from django.db.models.functions import Greatest
from msgspec import to_builtins

from realtime.facts import (
    ConnectionEnd,
    ConnectionFacts,
    ConnectionProgress,
    ConnectionRow,
    NodeFacts,
    PendingRows,
    Survey,
)
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
_PROGRESS = ("last_seen", "messages_in", "messages_out", "bytes_in", "bytes_out", "rooms")
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


def _nobody() -> None:
    """Nobody wants to know."""


def database_alias() -> str:
    """The database that these rows go to."""
    return router.db_for_write(Connection) or "default"


def missing_tables() -> list[str]:
    """Tables of ours that the database does not have: it is not migrated."""
    present = set(connections[database_alias()].introspection.table_names())
    return [model._meta.db_table for model in (Node, NodeSample, Connection) if model._meta.db_table not in present]


def write_what_is_accepted(rows: PendingRows, on_taken_for_dead: Callable[[], None] = _nobody) -> int:
    """Write ``rows``; the number of those that the database refuses for what is in them, found by halving."""
    try:
        write(rows, on_taken_for_dead)
    except _REFUSALS as error:
        if len(rows) == 1:
            logger.error("tracking_row_refused error=%r", f"{type(error).__name__}: {error}")
            return 1
        return sum(write_what_is_accepted(half, on_taken_for_dead) for half in rows.halves())
    return 0


def live_node_ids() -> list[str]:
    """The nodes that have neither stopped nor died, the latest heartbeat first. For a thread of its own."""
    try:
        live = Node.objects.exclude(state__in=ENDED_STATES).order_by("-last_heartbeat")
        return list(live.values_list("id", flat=True))
    finally:
        connections.close_all()


def release(*, is_broken: bool) -> None:
    """Let go of this thread's database connection, as far as CONN_MAX_AGE says so.

    With DEBUG Django keeps the text of each query until the next request, which a thread of ours never has.
    """
    reset_queries()
    database = connections[database_alias()]
    if is_broken:
        database.close()
    else:
        database.close_if_unusable_or_obsolete()


def write(rows: PendingRows, on_taken_for_dead: Callable[[], None] = _nobody) -> None:
    """Write all of ``rows`` in one transaction, or none.

    1. Deaths: ``state`` goes to dead by one conditional UPDATE; whoever changed it closes the node's
       connections. The same for nodes that a survey did not find.
    2. Own nodes, and a sample of each. One that others took for dead lives: ``on_taken_for_dead`` is called, and
       the ids of its live connections follow in later rows. Before the commit, whose answer may be lost: once too
       often does no harm.
    3. Connections: see ``_Statements``.
    4. A node that stopped has no live connections: whatever end was lost is made up.

    It begins with writing, also to look at a state: on SQLite a transaction that reads first may be refused at once.
    """
    alias = database_alias()
    database = connections[alias]
    with transaction.atomic(using=alias):
        for node_id in sorted(rows.deaths):  # in one order: two nodes must not wait for each other
            write_death(alias, node_id, rows.deaths[node_id])
        for own_id, survey in rows.surveys.items():
            _write_survey(alias, own_id, survey)
        for node in rows.nodes.values():
            if _revive(alias, node):
                on_taken_for_dead()
        _write_nodes(alias, list(rows.nodes.values()))
        statements = _Statements(database)
        with database.cursor() as cursor:
            for sql, parameters in statements.of(rows):
                cursor.executemany(sql, parameters)
        for node in rows.nodes.values():
            if node.state == NodeState.STOPPED:
                close_connections(_live(alias, node.id), node.last_heartbeat, STOPPED_REASON)


def mark_dead(node_id: str, at: float) -> bool:
    """Mark a node as dead by hand, and close its connections; whether it had not ended already."""
    alias = database_alias()
    with transaction.atomic(using=alias):
        return write_death(alias, node_id, at) is not None


def write_death(alias: str, node_id: str, at: float, *, ended_at: float | None = None) -> int | None:
    """Mark a node as dead unless it has ended, or was seen after ``at``, and close its connections; in a transaction.

    The number of those; None when it was not for us to do. ``ended_at``: when they ended, if not at ``at``.
    """
    died = Node.objects.using(alias).filter(id=node_id, last_heartbeat__lte=_moment(at)).exclude(state__in=ENDED_STATES)
    if not died.update(state=NodeState.DEAD):
        return None
    closed = close_connections(_live(alias, node_id), at if ended_at is None else ended_at, DIED_REASON)
    said = partial(logger.info, "node_rows_closed other=%s connections=%d", node_id, closed)
    transaction.on_commit(said, using=alias)
    return closed


def close_connections(live: models.QuerySet[Connection], at: float, reason: str) -> int:
    """Close the rows of these live connections, at that moment or when they were last seen; returns how many."""
    moment = Greatest(F("last_seen"), Value(_moment(at), output_field=models.DateTimeField()))
    return live.update(disconnected=moment, close_code=DIED_CODE, close_reason=reason)


def _live(alias: str, node_id: str) -> models.QuerySet[Connection]:
    return Connection.objects.using(alias).filter(node=node_id, disconnected__isnull=True)


def _revive(alias: str, node: NodeFacts) -> bool:
    """Whether others took this node for dead, which goes on. One that ends has nothing left to reopen."""
    dead = Node.objects.using(alias).filter(id=node.id, state=NodeState.DEAD)
    return node.state not in ENDED_STATES and dead.update(state=node.state) > 0


def _write_survey(alias: str, own_id: str, survey: Survey) -> None:
    """Nodes that died when nobody was there to notice."""
    silent = Node.objects.using(alias).filter(last_heartbeat__lte=_moment(survey.since)).exclude(state__in=ENDED_STATES)
    silent = silent.exclude(id__in={own_id, *survey.heard}).order_by("id")
    for node_id, last_heartbeat in list(silent.values_list("id", "last_heartbeat")):
        write_death(alias, node_id, survey.since, ended_at=seconds_of(last_heartbeat))


def row_of(node: NodeFacts) -> Node:
    """The row of a node, not written."""
    return Node(
        id=node.id,
        address=_text(Node, "address", node.address),
        version=_text(Node, "version", node.version),
        started=_moment(node.started),
        last_heartbeat=_moment(node.last_heartbeat),
        state=node.state,
        statistics=dict(node.statistics),
        health=[to_builtins(found) for found in node.health],
    )


def _write_nodes(alias: str, nodes: Sequence[NodeFacts]) -> None:
    if not nodes:
        return
    Node.objects.using(alias).bulk_create(
        [row_of(node) for node in nodes],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["address", "version", "started", "last_heartbeat", "state", "statistics", "health"],
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
    """The statements that write connections, for one database, and the parameters of each row.

    1. Connections that opened, with what they did and their end, if there is one already.
    2. Who connections turned out to be. 3. What live ones did. 4. Those that live although their node was taken for
    dead: nothing but the end that was made up for them is taken back. 5. The ends of those that were written earlier.
    """

    def __init__(self, database: BaseDatabaseWrapper) -> None:
        quote = database.ops.quote_name
        table = quote(Connection._meta.db_table)
        names = (*_OPENING, *_ENDING)
        self._column = column = {name: quote(str(_field(Connection, name).column)) for name in names}
        renewed = ", ".join(f"{column[name]} = EXCLUDED.{column[name]}" for name in names if name != "id")
        self._upsert = (
            f"INSERT INTO {table} ({', '.join(column[name] for name in names)})"
            f" VALUES ({', '.join(['%s'] * len(names))}) ON CONFLICT ({column['id']}) DO UPDATE SET {renewed}"
        )
        self._identify = self._update(table, ("user", "user_label"))
        self._progress = self._update(table, _PROGRESS)
        self._end = self._update(table, _ENDING)
        reopened = ("disconnected", "close_code", "close_reason")
        self._reopen = (
            f"{self._update(table, reopened)} AND {column['close_code']} = %s AND {column['close_reason']} = %s"
        )
        self._database = database
        self._users: models.ForeignKey[Any, Any] = Connection._meta.get_field("user")

    def _update(self, table: str, names: Iterable[str]) -> str:
        assigned = ", ".join(f"{self._column[name]} = %s" for name in names)
        return f"UPDATE {table} SET {assigned} WHERE {self._column['id']} = %s"

    def of(self, rows: PendingRows) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """Each statement that has something to do, with its parameters."""
        upserts, users, progress, reopened, ends = (list[tuple[Any, ...]]() for _ in range(5))
        for key, row in rows.connections.items():
            if row.opened is not None:
                upserts.append((*self._opening(row.opened), *self._state(row, row.opened.connected)))
                continue
            if row.user is not None:
                label = _text(Connection, "user_label", row.user.user_label)
                users.append((self._user(row.user.user), label, key))
            if row.progress is not None:
                progress.append((*self._progressed(row.progress), key))
            if row.is_reopened:
                reopened.append((None, None, "", key, DIED_CODE, DIED_REASON))
            if row.ended is not None:
                ends.append((*self._ending(row.ended), key))
        statements = (
            (self._upsert, upserts),
            (self._identify, users),
            (self._progress, progress),
            (self._reopen, reopened),
            (self._end, ends),
        )
        return [(sql, parameters) for sql, parameters in statements if parameters]

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

    def _state(self, row: ConnectionRow, connected: float) -> tuple[Any, ...]:
        if row.ended is not None:
            return self._ending(row.ended)
        if row.progress is not None:
            last_seen, *counts = self._progressed(row.progress)
            return (last_seen, None, None, "", *counts)
        return (self._adapt(connected), None, None, "", 0, 0, 0, 0, 0)

    def _progressed(self, done: ConnectionProgress) -> tuple[Any, ...]:
        return (
            self._adapt(done.last_seen),
            done.messages_in,
            done.messages_out,
            done.bytes_in,
            done.bytes_out,
            done.rooms,
        )

    def _ending(self, end: ConnectionEnd) -> tuple[Any, ...]:
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


def seconds_of(moment: datetime) -> float:
    """A moment from a row, as seconds since the epoch."""
    return moment.timestamp()


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
