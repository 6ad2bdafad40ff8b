"""Write-behind of rows: against real SQLite files and a real PostgreSQL server."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.db.backends.signals import connection_created

from realtime.facts import ConnectionFacts, ConnectionProgress, NodeFacts
from realtime.instrument import Instrument
from realtime.models import Connection, Node, NodeSample, NodeState
from realtime.tracking import Tracker
from tests.support.databases import SQLITE, default_database

NOW = 1_800_000_000.0


class CountingInstrument(Instrument):
    """Keeps what it is told of lost rows."""

    def __init__(self) -> None:
        self.lost = 0

    def tracking_rows_lost(self, count: int) -> None:
        self.lost += count


def tracker(**settings: Any) -> Tracker:
    return Tracker(**{"flush_seconds": 0.05, "pending_max": 100_000, "instrument": Instrument(), **settings})


def facts(number: int = 0, **values: Any) -> ConnectionFacts:
    return ConnectionFacts(
        **{"id": f"n1.{number:022d}", "node": "n1", "transport": "websocket", "connected": NOW, **values}
    )


def node_facts(node: str = "n1", **values: Any) -> NodeFacts:
    known = {"address": "ws://a", "version": "1", "started": NOW, "last_heartbeat": NOW, "state": "ready"}
    return NodeFacts(**{"id": node, **known, **values})


def end(subject: Tracker, connection_id: str, **values: Any) -> None:
    known = {"code": 1000, "reason": "bye", "at": NOW + 9, "last_seen": NOW + 8}
    subject.connection_closed(connection_id, **{**known, **values})


def run(scenario: Callable[[Tracker], Any], **settings: Any) -> Tracker:
    """Start a tracker, let ``scenario`` tell it things in the loop, and stop it."""

    async def body() -> Tracker:
        subject = tracker(**settings)
        await subject.start()
        result = scenario(subject)
        if asyncio.iscoroutine(result):
            await result
        await subject.stop()
        return subject

    return asyncio.run(body())


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


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


def test_a_dead_nodes_rows_are_closed_by_whoever_is_first(database: str) -> None:
    """Two nodes that notice a death: one closes the dead node's live rows, with 1006, and only those."""

    def arrange(subject: Tracker) -> None:
        subject.node_seen(node_facts("n1"))
        subject.connection_opened(facts(1))
        subject.connection_opened(facts(2))
        end(subject, facts(2).id)
        subject.connection_opened(facts(3, node="n2"))

    run(arrange)
    run(lambda subject: subject.node_died("n1", NOW + 20))
    run(lambda subject: subject.node_died("n1", NOW + 25))

    assert Node.objects.get(id="n1").state == NodeState.DEAD
    rows = {row.id: row for row in Connection.objects.all()}
    died = rows[facts(1).id]
    assert died.disconnected is not None
    assert (died.close_code, died.close_reason, died.disconnected.timestamp()) == (
        1006,
        "node died",
        NOW + 20,
    )
    assert rows[facts(2).id].close_code == 1000
    assert rows[facts(3).id].is_live


def test_a_late_verdict_does_not_kill_a_node_that_came_back(database: str) -> None:
    """A death that was noticed before the node's latest heartbeat but written after it changes nothing."""

    def arrange(subject: Tracker) -> None:
        subject.node_seen(node_facts(last_heartbeat=NOW + 60))
        subject.connection_opened(facts())

    run(arrange)
    run(lambda subject: subject.node_died("n1", NOW + 20))

    assert Node.objects.get().state == NodeState.READY
    assert Connection.objects.get().is_live


def test_a_node_taken_for_dead_reopens_its_rows(database: str) -> None:
    """A node that lives after all tells of its connections again, and their rows are live again."""

    def arrange(subject: Tracker) -> None:
        subject.node_seen(node_facts())
        subject.connection_opened(facts())

    run(arrange)
    run(lambda subject: subject.node_died("n1", NOW + 20))

    def come_back(subject: Tracker) -> None:
        subject.node_seen(node_facts(last_heartbeat=NOW + 30))
        subject.connection_opened(facts())

    run(come_back)

    assert Node.objects.get().state == NodeState.READY
    row = Connection.objects.get()
    assert (row.is_live, row.close_code, row.close_reason) == (True, None, "")


def test_a_stopped_node_leaves_no_live_row(database: str) -> None:
    """When a node says that it stopped, a connection whose end was lost is closed with it."""

    def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts(1))
        subject.connection_opened(facts(2))
        end(subject, facts(1).id)
        subject.node_seen(node_facts(state="stopped"))

    run(scenario)

    codes = {row.id: row.close_code for row in Connection.objects.all()}
    assert codes == {facts(1).id: 1000, facts(2).id: 1006}


def test_a_stopped_node_is_not_dead(database: str) -> None:
    """Whoever missed a node's goodbye finds it silent, and leaves its row as it is."""
    run(lambda subject: subject.node_seen(node_facts(state="stopped")))
    run(lambda subject: subject.node_died("n1", NOW + 20))

    assert Node.objects.get().state == NodeState.STOPPED


def test_rows_wait_while_the_database_is_locked(sqlite_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another writer holds the database nothing is lost, the loop goes on, and one line says so."""
    slowest = 0.0

    async def scenario(subject: Tracker) -> None:
        nonlocal slowest
        locker = sqlite3.connect(sqlite_file)
        locker.execute("BEGIN IMMEDIATE")
        for number in range(200):
            before = time.perf_counter()
            subject.connection_opened(facts(number))
            slowest = max(slowest, time.perf_counter() - before)
        await until(lambda: subject._failures >= 2)
        assert subject.pending == 200
        locker.rollback()
        locker.close()
        await until(lambda: subject.pending == 0)

    with caplog.at_level(logging.INFO, "realtime.tracking"):
        subject = run(scenario)

    assert subject.lost == 0
    assert Connection.objects.count() == 200
    assert slowest < 0.1  # the lock is held for longer than that at every try
    events = [record.getMessage().split()[0] for record in caplog.records]
    assert events == ["tracking_unavailable", "tracking_restored"]


def test_rows_beyond_the_bound_are_counted(sqlite_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the database gone for long, what exceeds the bound is lost, counted and logged once."""
    instrument = CountingInstrument()

    def scenario(subject: Tracker) -> None:
        for number in range(150):
            subject.connection_opened(facts(number))
        end(subject, facts(5).id)  # belongs to a row that waits: it needs no more room

    with caplog.at_level(logging.ERROR, "realtime.tracking"):
        subject = run(scenario, pending_max=100, instrument=instrument, flush_seconds=60)

    assert (subject.lost, instrument.lost) == (50, 50)
    assert Connection.objects.count() == 100
    assert Connection.objects.get(id=facts(5).id).close_code == 1000
    assert len(caplog.records) == 1


def test_an_unmigrated_database_is_one_clear_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, django_db_blocker: Any
) -> None:
    """Missing tables: one ERROR line names the remedy; once it is applied, what waited is written."""

    async def scenario(subject: Tracker) -> None:
        subject.connection_opened(facts())
        await until(lambda: subject._failures >= 2)
        migration = threading.Thread(target=call_command, args=("migrate",), kwargs={"verbosity": 0})
        migration.start()
        await asyncio.to_thread(migration.join)
        await until(lambda: subject.pending == 0, 30)

    settings = {
        **SQLITE,
        "NAME": str(tmp_path / "empty.sqlite3"),
        "OPTIONS": {**SQLITE["OPTIONS"], "timeout": 5},
    }
    with django_db_blocker.unblock(), default_database(settings):
        with caplog.at_level(logging.ERROR, "realtime.tracking"):
            run(scenario)
        assert Connection.objects.count() == 1

    (record,) = caplog.records
    assert "manage.py migrate" in record.getMessage()


def test_stop_gives_up_at_its_deadline(sqlite_file: Path) -> None:
    """A database that is not there cannot hold up the end of the process; what was not written is counted."""
    instrument = CountingInstrument()

    async def scenario() -> float:
        subject = tracker(instrument=instrument, flush_seconds=60)
        await subject.start()
        subject.connection_opened(facts())
        before = time.monotonic()
        await subject.stop(within_seconds=0.3)
        return time.monotonic() - before

    locker = sqlite3.connect(sqlite_file)
    locker.execute("BEGIN IMMEDIATE")
    assert asyncio.run(scenario()) < 2
    locker.close()
    assert instrument.lost == 1


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


def progress(**values: Any) -> ConnectionProgress:
    known = {"messages_in": 1, "messages_out": 2, "bytes_in": 3, "bytes_out": 2**40, "rooms": 5}
    return ConnectionProgress(**{"last_seen": NOW + 5, **known, **values})


def columns(row: Connection) -> ConnectionProgress:
    return progress(
        last_seen=row.last_seen.timestamp(),
        **{name: getattr(row, name) for name in ("messages_in", "messages_out", "bytes_in", "bytes_out", "rooms")},
    )


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


def test_only_what_a_death_closed_is_reopened(database: str) -> None:
    """The node that lives learns of its burial with its next heartbeat, once; rows that a judge closed are live again
    with their figures, and those that ended before or meanwhile keep their true end."""
    burials: list[str] = []

    def arrange(subject: Tracker) -> None:
        subject.node_seen(node_facts())
        for number in (1, 2, 3, 4):
            subject.connection_opened(facts(number))
            subject.connection_progressed(facts(number).id, progress())
        end(subject, facts(1).id)

    run(arrange)
    run(lambda subject: subject.node_died("n1", NOW + 20))

    async def come_back(subject: Tracker) -> None:
        subject.node_seen(node_facts(last_heartbeat=NOW + 30))
        await until(lambda: len(burials) == 1)
        for number in (1, 2, 3):
            subject.connection_lives(facts(number).id)
        end(subject, facts(2).id, code=4000, reason="later", at=NOW + 31)
        await until(lambda: subject.pending == 0)
        subject.node_seen(node_facts(last_heartbeat=NOW + 35))

    run(come_back, on_taken_for_dead=lambda: burials.append("n1"))

    assert burials == ["n1"]
    assert Node.objects.get().state == NodeState.READY
    first, second, third, fourth = Connection.objects.order_by("id")
    assert (first.close_code, first.close_reason) == (1000, "bye")
    assert (second.close_code, second.close_reason) == (4000, "later")
    assert (third.is_live, third.close_code, third.close_reason) == (True, None, "")
    assert columns(third) == progress()
    assert (fourth.close_code, fourth.close_reason) == (1006, "node died")  # nobody said that it lives


def test_a_node_taken_for_dead_that_says_goodbye_has_stopped(database: str) -> None:
    """It is not told to reopen anything; ends that it still knows are the true ones, what else is closed stays so."""
    burials: list[str] = []

    def arrange(subject: Tracker) -> None:
        subject.node_seen(node_facts())
        subject.connection_opened(facts(1))
        subject.connection_opened(facts(2))

    run(arrange)
    run(lambda subject: subject.node_died("n1", NOW + 20))

    def say_goodbye(subject: Tracker) -> None:
        end(subject, facts(1).id, code=1012, reason="Service restart")
        subject.node_seen(node_facts(last_heartbeat=NOW + 40, state="stopped"))

    run(say_goodbye, on_taken_for_dead=lambda: burials.append("n1"))
    run(lambda subject: subject.node_died("n1", NOW + 60))

    assert burials == []
    assert Node.objects.get().state == NodeState.STOPPED
    rows = {row.id: (row.close_code, row.close_reason) for row in Connection.objects.all()}
    assert rows == {facts(1).id: (1012, "Service restart"), facts(2).id: (1006, "node died")}


def test_two_judges_at_the_same_moment_close_the_rows_once(database: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever comes first closes all rows, and the other none."""

    def arrange(subject: Tracker) -> None:
        for node in ("n1", "n2", "n3"):
            subject.node_seen(node_facts(node))
        for number in range(200):
            subject.connection_opened(facts(number, node=f"n{number % 2 + 1}"))

    run(arrange)
    ready = threading.Barrier(2)

    def judge(at: float, order: tuple[str, str]) -> None:
        def scenario(subject: Tracker) -> None:
            for node in order:
                subject.node_died(node, at)
            subject.node_seen(node_facts(f"judge{at}", last_heartbeat=at))
            ready.wait(10)

        run(scenario)

    with caplog.at_level(logging.INFO, "realtime.tracking"):
        judges = [
            threading.Thread(target=judge, args=(NOW + 20, ("n1", "n2"))),
            threading.Thread(target=judge, args=(NOW + 21, ("n2", "n1"))),
        ]
        for thread in judges:
            thread.start()
        for thread in judges:
            thread.join(30)

    closings = [each for each in map(str.strip, caplog.messages) if each.startswith("node_rows_closed")]
    assert sorted(closings) == [f"node_rows_closed other={node} connections=100" for node in ("n1", "n2")]
    for node in ("n1", "n2"):
        moments = set(Connection.objects.filter(node=node).values_list("disconnected", "close_reason"))
        assert len(moments) == 1
    assert Connection.objects.filter(disconnected__isnull=True).count() == 0


def test_a_survey_closes_the_rows_of_nodes_that_nobody_saw_die(database: str) -> None:
    """Silent since before the survey, and not heard in it: dead, their connections closed when they were last known to
    live. The node itself, those that were heard, those that wrote since and those that stopped are left alone."""

    def arrange(subject: Tracker) -> None:
        states = {"gone": "ready", "heard": "ready", "stopped": "stopped", "own": "starting", "fresh": "ready"}
        for number, (node, state) in enumerate(states.items()):
            subject.connection_opened(facts(number, node=node))
            subject.node_seen(node_facts(node, state=state, last_heartbeat=NOW + (500 if node == "fresh" else 3)))
        subject.connection_opened(facts(9, node="gone"))
        subject.connection_progressed(facts(9).id, progress(last_seen=NOW + 5))

    run(arrange)
    run(lambda subject: subject.nodes_surveyed("own", ["heard"], NOW + 400))

    states = dict(Node.objects.values_list("id", "state"))
    assert states == {"gone": "dead", "heard": "ready", "stopped": "stopped", "own": "starting", "fresh": "ready"}
    live = set(Connection.objects.filter(disconnected__isnull=True).values_list("node", flat=True))
    assert live == {"heard", "own", "fresh"}
    closed = Connection.objects.filter(node="gone").order_by("id").values_list("disconnected", "close_reason")
    assert [(moment.timestamp(), reason) for moment, reason in closed if moment] == [
        (NOW + 3, "node died"),
        (NOW + 5, "node died"),
    ]


def test_a_postgresql_that_hangs_delays_nothing(postgresql: None) -> None:
    """While somebody holds the table, the loop goes on and rows wait; then all of them are written."""
    slowest = 0.0

    async def scenario(subject: Tracker) -> None:
        nonlocal slowest
        with psycopg.connect(**_address()) as locker:
            locker.execute("LOCK TABLE realtime_connection IN ACCESS EXCLUSIVE MODE")
            subject.connection_opened(facts(0))
            await until(lambda: subject._carried_count == 1)  # the thread has taken it, and waits for the lock
            for number in range(1, 200):
                before = time.perf_counter()
                subject.connection_opened(facts(number))
                slowest = max(slowest, time.perf_counter() - before)
            await until(lambda: _blocked(locker) == 1)
            assert subject.pending == 200
        await until(lambda: subject.pending == 0)

    assert run(scenario).lost == 0
    assert Connection.objects.count() == 200
    assert slowest < 1  # the lock was held for as long as all of that took


def test_a_postgresql_that_cuts_its_clients_costs_no_row(postgresql: None, caplog: pytest.LogCaptureFixture) -> None:
    """A connection to the database that ends under the tracker is made again, and what waited is written."""

    async def scenario(subject: Tracker) -> None:
        for number in range(3):
            subject.connection_opened(facts(number))
            await until(lambda: subject.pending == 0, 60)
            with psycopg.connect(**_address()) as killer:
                killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
                )

    with caplog.at_level(logging.INFO, "realtime.tracking"):
        assert run(scenario).lost == 0
    assert "tracking_restored" in caplog.text
    with psycopg.connect(**_address()) as witness:  # Django's own connection of this thread was cut, too
        assert witness.execute("SELECT count(*) FROM realtime_connection").fetchone() == (3,)


def _address() -> dict[str, Any]:
    settings = connection.settings_dict
    return {"host": settings["HOST"], "port": settings["PORT"], "user": settings["USER"], "dbname": settings["NAME"]}


def _blocked(witness: psycopg.Connection[Any]) -> int:
    """Sessions that wait for a lock."""
    row = witness.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
    return int(row[0]) if row else 0
