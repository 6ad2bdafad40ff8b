"""What ``manage.py cleanup`` does to the rows, in short transactions, so that nodes go on writing between them.

1. Nodes that say they live and have been silent for SILENT_SECONDS are dead: nobody was there to notice.
2. Connections that are live, and whose node has ended or has no row, are closed.
3. Rows of connections that ended, of nodes that ended, and samples go when they are old enough.

Everything is safe beside running nodes and beside another cleanup: a node that was taken for dead and lives reopens
its rows, and rows that somebody else is deleting are left to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from django.conf import settings
from django.db import connections, models, transaction

from realtime import rows
from realtime.models import ENDED_STATES, Connection, Node, NodeSample

BATCH_ROWS = 500
"""Deleted in one transaction; under SQLite's old bound of 999 parameters in a statement."""
PAUSE_SECONDS = 0.02
"""Between two of them: who waits for SQLite's write lock looks for it again and again, and must find it free."""
SILENT_SECONDS = 300.0
"""Ten of the longest pauses between two tries of a node to write."""
SAMPLES_KEPT = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows of each kind."""

    nodes_died: int
    connections_closed: int
    connections: int
    nodes: int
    samples: int


class Pruner:
    """One cleanup at the moment ``now``; what ended before ``now - older_than`` is removed."""

    def __init__(
        self,
        now: datetime,
        older_than: timedelta,
        *,
        silent_seconds: float = SILENT_SECONDS,
        pause: Callable[[], None] = lambda: time.sleep(PAUSE_SECONDS),
    ) -> None:
        self._alias = rows.database_alias()
        self._pause = pause
        self._silent_since = now - timedelta(seconds=silent_seconds)
        using = self._alias
        live_node = Node.objects.using(using).exclude(state__in=ENDED_STATES)
        self._silent = live_node.filter(last_heartbeat__lt=self._silent_since)
        self._live = Connection.objects.using(using).filter(disconnected__isnull=True)
        self._orphans = self._live.filter(connected__lt=self._silent_since).exclude(node__in=live_node.values("id"))
        self._connections = Connection.objects.using(using).filter(disconnected__lt=now - older_than)
        ended_node = Node.objects.using(using).filter(state__in=ENDED_STATES)
        self._nodes = ended_node.filter(last_heartbeat__lt=now - older_than)
        self._samples = NodeSample.objects.using(using).filter(at__lt=now - SAMPLES_KEPT)

    def count(self) -> Pruned:
        """What ``prune`` would do at this moment, without doing it."""
        silent = self._silent.values("id")
        return Pruned(
            nodes_died=self._silent.count(),
            connections_closed=self._live.filter(node__in=silent).count() + self._orphans.count(),
            connections=self._connections.count(),
            nodes=self._nodes.count(),
            samples=self._samples.count(),
        )

    def prune(self) -> Pruned:
        """Do it, and say what was done."""
        died, closed = self._bury()
        closed += self._close_orphans()
        return Pruned(
            nodes_died=died,
            connections_closed=closed,
            connections=sum(self._delete(self._connections.order_by("disconnected"))),
            nodes=sum(self._delete(self._nodes.order_by("last_heartbeat"))),
            samples=sum(self._delete(self._samples.order_by("at"))),
        )

    def _bury(self) -> tuple[int, int]:
        died = closed = 0
        for node_id, last_heartbeat in list(self._silent.order_by("id").values_list("id", "last_heartbeat")):
            with transaction.atomic(using=self._alias):
                closed_now = rows.write_death(
                    self._alias, node_id, self._silent_since.timestamp(), ended_at=last_heartbeat.timestamp()
                )
            if closed_now is not None:  # else it has spoken meanwhile, or somebody else was first
                died, closed = died + 1, closed + closed_now
            self._pause()
        return died, closed

    def _close_orphans(self) -> int:
        closed = 0
        for node_id in list(self._orphans.order_by().values_list("node", flat=True).distinct()):
            of_node = self._orphans.filter(node=node_id)  # asks again for the state of the node
            closed += rows.close_connections(of_node, self._silent_since.timestamp(), rows.DIED_REASON)
            self._pause()
        return closed

    def _delete(self, old: models.QuerySet[Any]) -> Iterator[int]:
        """Delete batch after batch, the oldest first; the number of rows of each."""
        may_share = connections[self._alias].features.has_select_for_update_skip_locked
        batch = old.select_for_update(skip_locked=True) if may_share else old
        while True:
            # Elsewhere a transaction that begins with reading could fail for another that writes meanwhile.
            with transaction.atomic(using=self._alias) if may_share else nullcontext():
                keys = list(batch.values_list("pk", flat=True)[:BATCH_ROWS])
                deleted, _ = old.model._default_manager.using(self._alias).filter(pk__in=keys).delete()
            yield deleted
            if len(keys) < BATCH_ROWS:
                return
            self._pause()


def now() -> datetime:
    """The moment, as rows have it."""
    zone: tzinfo | None = UTC if settings.USE_TZ else None
    return datetime.now(zone)
