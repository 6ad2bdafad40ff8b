"""`manage.py cleanup`, on real databases."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.models import QuerySet

from realtime.management.commands.cleanup import Command
from realtime.models import Connection, Node, NodeSample
from realtime.pruning import BATCH_ROWS, Pruned, Pruner
from tests.support.databases import SQLITE, default_database

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def ago(span: timedelta) -> datetime:
    return datetime.now(UTC) - span


def node(name: str, state: str, silent: timedelta) -> Node:
    return Node.objects.create(id=name, state=state, started=ago(30 * DAY), last_heartbeat=ago(silent))


def rows_of(name: str, count: int, *, opened: timedelta, ended: timedelta | None = None) -> None:
    Connection.objects.bulk_create(
        Connection(
            id=f"{name}.{opened} {ended}.{number}",
            node=name,
            transport="websocket",
            connected=ago(opened),
            last_seen=ago(opened),
            disconnected=None if ended is None else ago(ended),
            close_code=None if ended is None else 1000,
        )
        for number in range(count)
    )


def cleanup(*arguments: str) -> list[str]:
    out = io.StringIO()
    call_command("cleanup", *arguments, stdout=out)
    return out.getvalue().splitlines()


def figures(lines: list[str]) -> list[int]:
    return [int(line.split()[-1].replace(",", "")) for line in lines[:5]]


def arrange() -> None:
    """A bit of everything, old enough and not."""
    node("live", "ready", 2 * MINUTE)
    node("vanished", "ready", 20 * MINUTE)
    node("stopped long ago", "stopped", 8 * DAY)
    node("dead long ago", "dead", 8 * DAY)
    node("stopped lately", "stopped", 6 * DAY)
    rows_of("live", 1, opened=10 * DAY)
    rows_of("live", 3, opened=10 * DAY, ended=9 * DAY)
    rows_of("live", 2, opened=9 * DAY, ended=5 * DAY)
    rows_of("vanished", 4, opened=DAY)
    rows_of("stopped lately", 5, opened=7 * DAY)  # its last word on them was lost
    rows_of("without a row", 1, opened=DAY)
    rows_of("without a row", 1, opened=MINUTE)  # its node's row may be on its way
    for hours in (1, 23, 25, 49):
        NodeSample.objects.create(node="live", at=ago(timedelta(hours=hours)))


def test_what_is_old_enough_goes_and_the_rest_stays(database: str) -> None:
    """Rows of what ended 7 days ago, samples of 24 hours; what died unnoticed is closed; nothing that lives is
    touched; a second run finds nothing more to do."""
    arrange()
    lines = cleanup()
    assert figures(lines) == [1, 10, 3, 2, 2]
    assert lines[-1].startswith("Done in ")
    assert dict(Node.objects.values_list("id", "state")) == {
        "live": "ready",
        "vanished": "dead",
        "stopped lately": "stopped",
    }
    live = Connection.objects.filter(disconnected__isnull=True)
    assert sorted(live.values_list("node", flat=True)) == ["live", "without a row"]
    ends = Connection.objects.filter(node="vanished").values_list("close_code", "close_reason").distinct()
    assert list(ends) == [(1006, "node died")]
    (moment,) = Connection.objects.filter(node="vanished").values_list("disconnected", flat=True).distinct()
    assert moment == Node.objects.get(id="vanished").last_heartbeat  # when it was last known to live
    assert NodeSample.objects.count() == 2
    assert figures(cleanup()) == [0, 0, 0, 0, 0]


def test_a_dry_run_counts_the_same_and_changes_nothing(database: str) -> None:
    """And says so."""
    arrange()
    before = (list(Node.objects.values()), list(Connection.objects.order_by("id").values()), NodeSample.objects.count())
    lines = cleanup("--dry-run")
    assert figures(lines) == [1, 10, 3, 2, 2]
    assert "--dry-run" in lines[-1]
    after = (list(Node.objects.values()), list(Connection.objects.order_by("id").values()), NodeSample.objects.count())
    assert after == before


@pytest.mark.parametrize(("span", "left"), [("7d", 4), ("36h", 3), ("90m", 2), ("0m", 0)])
def test_older_than(sqlite_file: object, span: str, left: int) -> None:
    """Days, hours or minutes."""
    for ended in (MINUTE, timedelta(hours=1), timedelta(hours=12), 3 * DAY, 10 * DAY):
        rows_of(f"n{ended}", 1, opened=11 * DAY, ended=ended)
    cleanup("--older-than", span)
    assert Connection.objects.count() == left


@pytest.mark.parametrize("span", ["7", "d", "-1d", "1.5h", "7 d", "7w", ""])
def test_what_is_no_span_of_time_is_refused(span: str) -> None:
    """With the forms that are understood."""
    with pytest.raises(CommandError, match="7d, 12h or 30m"):
        Command().create_parser("manage.py", "cleanup").parse_args([f"--older-than={span}"])


def test_a_tracker_writes_between_the_batches(database: str) -> None:
    """Rows go in portions, each in a transaction of its own, oldest first: between them others may write."""
    rows_of("new", 1, opened=10 * DAY, ended=8 * DAY)
    rows_of("old", 2 * BATCH_ROWS, opened=20 * DAY, ended=9 * DAY)
    left: list[int] = []

    def write_meanwhile() -> None:
        def write() -> None:
            Connection.objects.filter(node="new").update(messages_in=len(left))
            left.append(Connection.objects.count())
            connections.close_all()

        other = threading.Thread(target=write)  # with a connection of its own
        other.start()
        other.join()

    done = Pruner(datetime.now(UTC), 7 * DAY, pause=write_meanwhile).prune()
    assert done.connections == 2 * BATCH_ROWS + 1
    assert left == [BATCH_ROWS + 1, 1]


def test_two_at_once_remove_each_row_once(database: str) -> None:
    """Together they remove everything and close everything, and what they say adds up."""
    node("vanished", "ready", 10 * DAY)
    rows_of("vanished", 300, opened=12 * DAY)
    rows_of("gone", 4 * BATCH_ROWS, opened=20 * DAY, ended=9 * DAY)
    done: list[Pruned] = []
    ready = threading.Barrier(2)

    def run() -> None:
        try:
            pruner = Pruner(datetime.now(UTC), 7 * DAY)
            ready.wait(10)
            done.append(pruner.prune())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(each.connections for each in done) == 4 * BATCH_ROWS + 300
    assert [sum(each.connections_closed for each in done), sum(each.nodes_died for each in done)] == [300, 1]
    assert (Connection.objects.count(), Node.objects.count()) == (0, 0)


def test_a_database_that_is_not_there_is_one_clear_line(tmp_path: Any, django_db_blocker: Any) -> None:
    """And no traceback; what was done stays done."""
    settings = {**SQLITE, "NAME": str(tmp_path / "empty.sqlite3")}
    with (
        django_db_blocker.unblock(),
        default_database(settings),
        pytest.raises(CommandError, match=r"no such table.* run it again"),
    ):
        cleanup()


def queries(database: str) -> Iterator[tuple[QuerySet[Any], str]]:
    """What cleanup, the admin and the commands ask of many rows, and the index that answers it."""
    now = datetime.now(UTC)
    yield Connection.objects.filter(disconnected__lt=now).order_by("disconnected")[:500], "realtime_connection_ended"
    yield NodeSample.objects.filter(at__lt=now).order_by("at")[:500], "realtime_sample_at"
    yield Connection.objects.filter(node="n1", disconnected__isnull=True), "realtime_connection_live"
    yield Connection.objects.order_by("-connected", "-id")[:50], "realtime_connection_newest"
    yield Connection.objects.filter(node="n1").order_by("-connected")[:50], "realtime_connection_node"
    yield Connection.objects.filter(user=1).order_by("-connected")[:50], "realtime_connection_user"
    unique = "sqlite_autoindex_realtime_nodesample_1" if database == "sqlite" else "realtime_sample_once"
    yield NodeSample.objects.filter(node="n1", at__gt=now), unique


def test_each_question_has_its_index(database: str) -> None:
    """None of them reads a whole table."""
    if database == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET enable_seqscan = off")  # a few rows would be read faster without an index
    for query, index in queries(database):
        assert index in query.explain(), query.query
