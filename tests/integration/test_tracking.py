"""Write-behind of rows: against real SQLite files and a real PostgreSQL server."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.backends.signals import connection_created

from realtime.models import Connection, Node, NodeSample
from realtime.tracking import Tracker
from tests.support.tracking import NOW, CountingInstrument, columns, end, facts, node_facts, progress, run, until


def test_an_open_connection_is_a_row(database: str) -> None:
    """What was known when a connection was accepted is in its row, which is live."""
    user = User.objects.create_user("alice")
    known: dict[str, Any] = {
        "remote_address": "10.1.2.3",
        "user_agent": "Firefox",
        "path": "/ws/",
        "user_label": "alice",
    }

    run(lambda subject: subject.connection_opened(facts(user=str(user.pk), **known)))

    row = Connection.objects.get()
    assert (row.id, row.node, row.transport, row.user) == (facts().id, "n1", "websocket", user)
    assert {name: getattr(row, name) for name in known} == known
    assert row.connected.timestamp() == row.last_seen.timestamp() == NOW
    assert row.is_live


def test_a_closed_connection_keeps_how_it_ended(database: str) -> None:
    """Code, reason, moments and counts are written over the row that was written before."""
    counts = {"messages_in": 1, "messages_out": 2, "bytes_in": 3, "bytes_out": 2**40, "rooms": 5}

    async def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(path="/ws/"))
        await until(lambda: subject.pending == 0)
        end(subject, facts().id, code=4008, reason="Slow consumer", **counts)

    run(scenario)

    row = Connection.objects.get()
    assert (row.close_code, row.close_reason, row.path) == (4008, "Slow consumer", "/ws/")
    assert row.disconnected is not None
    assert (row.disconnected.timestamp(), row.last_seen.timestamp()) == (NOW + 9, NOW + 8)
    assert {name: getattr(row, name) for name in counts} == counts


def test_opening_and_closing_between_two_writes_is_one_pending_row(database: str) -> None:
    """A connection that comes and goes within one interval waits as one row and is written whole."""

    def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts())
        end(subject, facts().id)
        assert subject.pending == 1

    run(scenario, flush_seconds=60)

    assert Connection.objects.get().close_code == 1000


def test_a_thousand_connects_are_a_handful_of_transactions(database: str) -> None:
    """1,000 connections that open, and half of them say who they are, are committed once, not 1,000 times."""
    statements: list[str] = []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql.split()[0])
        return execute(sql, params, many, context)

    def watch(sender: object, connection: Any, **_: object) -> None:
        connection.execute_wrappers.append(count)

    def scenario(subject: Tracker) -> None:
        for number in range(1_000):
            subject.connection_opened(facts(number))
            if number % 2:
                subject.connection_identified(facts(number).id, "7", "seven")

    connection_created.connect(watch)
    try:
        run(scenario, flush_seconds=60)
    finally:
        connection_created.disconnect(watch)

    # PostgreSQL's BEGIN is the driver's own and is not seen here: one statement is one transaction at most.
    expected = {"sqlite": ["BEGIN", "INSERT"], "postgresql": ["INSERT"]}
    assert [each for each in statements if each not in ("PRAGMA", "SELECT")] == expected[database]
    assert Connection.objects.filter(user_label="seven").count() == 500
    assert Connection.objects.count() == 1_000


def test_a_deleted_or_unknown_user_costs_no_row(database: str) -> None:
    """A user whose row is gone, or whose id can be no key, is written by label and read as nobody."""

    def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(1, user="999999", user_label="gone"))
        subject.connection_opened(facts(2, user="not-a-number", user_label="elsewhere"))
        subject.connection_opened(facts(3, user="9" * 400, user_label="huge"))

    assert run(scenario).lost == 0
    found = Connection.objects.select_related("user").order_by("id")
    assert [(row.user, row.user_label) for row in found] == [
        (None, "gone"),
        (None, "elsewhere"),
        (None, "huge"),
    ]


def test_text_that_a_database_would_refuse_is_made_fit(database: str) -> None:
    """NUL, lone surrogates and overlong texts of a client do not cost its row."""
    run(lambda subject: subject.connection_opened(facts(user_agent="a\0b\ud800" + "x" * 999, path="/" * 999)))

    row = Connection.objects.get()
    assert row.user_agent.startswith("ab?xxx")
    assert (len(row.user_agent), len(row.path)) == (255, 255)


def test_one_refused_row_costs_only_itself(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """A row that the database cannot take is counted as lost; the others of its batch are written."""
    instrument = CountingInstrument()

    def scenario(subject: Tracker) -> None:
        for number in range(20):
            subject.connection_opened(facts(number))
        end(subject, facts(7).id, messages_in=2**70)
        subject.node_seen(node_facts())

    with caplog.at_level(logging.ERROR, "realtime.tracking"):
        subject = run(scenario, instrument=instrument)

    assert (subject.lost, instrument.lost) == (1, 1)
    assert Connection.objects.count() == 19
    assert Node.objects.count() == 1
    assert [record.getMessage().split()[0] for record in caplog.records] == ["tracking_row_refused"]


def test_heartbeats_keep_one_row_and_a_sample_for_each_span(database: str) -> None:
    """A node's row follows its heartbeats; its time series has one point for each span of 30 s."""

    async def scenario(subject: Tracker) -> None:
        for beat in range(10):
            facts = node_facts(last_heartbeat=NOW + 5 * beat, statistics={"connections": beat})
            subject.node_seen(facts)
            await until(lambda: subject.pending == 0)

    run(scenario)

    node = Node.objects.get()
    assert node.last_heartbeat.timestamp() == NOW + 45
    assert node.statistics == {"connections": 9}
    assert [sample.at.timestamp() for sample in NodeSample.objects.order_by("at")] == [NOW, NOW + 30]


def test_the_thread_ends_and_keeps_no_connection(database: str) -> None:
    """After stop the thread is gone, and so is its connection to the database."""

    def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts())

    run(scenario)

    for thread in threading.enumerate():
        if thread.name == "realtime-tracking":
            thread.join(5)
            assert not thread.is_alive()
    if database == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
            assert cursor.fetchone() == (0,)


def test_the_thread_keeps_no_queries(database: str, settings: Any) -> None:
    """With DEBUG Django keeps the text of queries until a request begins: the thread drops them after each write."""
    settings.DEBUG = True
    databases: list[Any] = []

    def watch(sender: object, connection: Any, **_: object) -> None:
        databases.append(connection)

    connection_created.connect(watch)
    try:
        run(lambda subject: subject.connection_opened(facts()))
    finally:
        connection_created.disconnect(watch)
    assert Connection.objects.count() == 1
    assert [len(each.queries_log) for each in databases if each is not connection] == [0]


def test_a_live_row_shows_what_the_connection_did(database: str) -> None:
    """Figures of a live connection are written over those of its row, which stays live and keeps the rest; the latest
    of several wait as one row."""

    async def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(1, path="/ws/", user_label="alice"))
        subject.connection_opened(facts(2))
        await until(lambda: subject.pending == 0)
        subject.connection_progressed(facts(1).id, progress(messages_in=99))
        subject.connection_progressed(facts(1).id, progress())
        assert subject.pending <= 1

    run(scenario)

    first, second = Connection.objects.order_by("id")
    assert columns(first) == progress()
    assert (first.is_live, first.path, first.user_label, first.connected.timestamp()) == (True, "/ws/", "alice", NOW)
    assert (second.messages_in, second.last_seen.timestamp()) == (0, NOW)


def test_figures_and_end_of_a_row_that_waits_are_one_row(database: str) -> None:
    """What opens, acts and ends between two writes is written whole: figures of the end, not those before."""

    def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(1))
        subject.connection_progressed(facts(1).id, progress())
        subject.connection_opened(facts(2))
        subject.connection_progressed(facts(2).id, progress())
        end(subject, facts(2).id, messages_in=7)
        assert subject.pending == 2

    run(scenario, flush_seconds=60)

    first, second = Connection.objects.order_by("id")
    assert (columns(first), first.is_live) == (progress(), True)
    assert (second.messages_in, second.messages_out, second.close_code) == (7, 0, 1000)


def test_figures_that_find_no_room_are_no_loss(sqlite_file: Path) -> None:
    """They are refused, to be told again later, and no row is counted as lost."""
    told: list[bool] = []

    def scenario(subject: Tracker) -> None:
        for number in range(100):
            subject.connection_opened(facts(number))
        told.append(subject.connection_progressed(facts(5).id, progress()))
        told.append(subject.connection_progressed(facts(500).id, progress()))

    assert run(scenario, pending_max=100, flush_seconds=60).lost == 0
    assert told == [True, False]


@pytest.mark.parametrize("is_written", [True, False])
def test_who_a_connection_turned_out_to_be_is_in_its_row(database: str, is_written: bool) -> None:
    """User and label are renewed, whether the row was written before or waits; the rest of the row stays."""
    user = User.objects.create_user("alice")

    async def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(path="/ws/"))
        if is_written:
            await until(lambda: subject.pending == 0)
        subject.connection_identified(facts().id, str(user.pk), "alice")
        subject.connection_progressed(facts().id, progress())

    run(scenario, flush_seconds=0.05 if is_written else 60)

    row = Connection.objects.get()
    assert (row.user, row.user_label, row.path, row.is_live) == (user, "alice", "/ws/", True)
    assert columns(row) == progress()
