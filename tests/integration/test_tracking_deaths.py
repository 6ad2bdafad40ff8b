"""What becomes of the rows of nodes that died, stopped, or were taken for dead."""

from __future__ import annotations

import logging
import threading

import pytest

from realtime.models import Connection, Node, NodeState
from realtime.tracking import Tracker
from tests.support.tracking import NOW, columns, end, facts, node_facts, progress, run, until


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
