"""Member lists over the cluster."""

from __future__ import annotations

import asyncio

from realtime.hub import Hub, Member
from realtime.members import Changes, MemberLists
from realtime.protocol.envelope import RosterChange
from realtime.protocol.messages import MemberInfo
from tests.unit.writers import RecordingWriter


class Cluster:
    """One node's member lists, and what it published."""

    def __init__(self, *others: str, timeout: float = 5.0) -> None:
        self.hub = Hub()
        self.others = list(others)
        self.asked: list[list[str]] = []
        self.unasked: list[list[str]] = []
        self.told: list[tuple[str, list[RosterChange]]] = []
        self.pushed: list[tuple[int, int]] = []
        self.lists = MemberLists(
            self.hub,
            ask=self.asked.append,
            unask=self.unasked.append,
            tell=lambda node, changes: self.told.append((node, changes)),
            others=lambda: self.others,
            pushed=lambda count, size: self.pushed.append((count, size)),
            interval_seconds=0.005,
            timeout_seconds=timeout,
        )

    def join(self, name: str, room: str = "lobby") -> tuple[Member, RecordingWriter]:
        writer = RecordingWriter()
        member = Member(name, None, writer)
        self.hub.add(member)
        self.hub.join(member, room)
        self.lists.joined(member, room)
        return member, writer

    async def flushed(self) -> None:
        """Wait until what was gathered has been told."""
        while self.lists._timer is not None:
            await asyncio.sleep(0.001)


def info(name: str) -> MemberInfo:
    return MemberInfo(id=name, user=None)


async def test_the_first_watcher_asks_the_other_nodes_once() -> None:
    """And a second one waits for the same answers."""
    cluster = Cluster("n2", "n3")
    alice, _ = cluster.join("a")
    bob, _ = cluster.join("b")
    watching = [asyncio.create_task(cluster.lists.watch(each, "lobby")) for each in (alice, bob)]
    await asyncio.sleep(0)
    cluster.lists.roster_came("n2", {"lobby": [info("x")]})
    cluster.lists.roster_came("n3", {"lobby": []})
    assert await asyncio.gather(*watching) == [[], []]
    assert cluster.asked == [["lobby"]]
    assert set(cluster.lists.members_of("lobby")) == {"a", "b", "x"}


async def test_nodes_that_do_not_answer_are_named() -> None:
    """After the timeout, with what is known."""
    cluster = Cluster("n2", "n3", timeout=0.01)
    alice, _ = cluster.join("a")
    watching = asyncio.create_task(cluster.lists.watch(alice, "lobby"))
    await asyncio.sleep(0)
    cluster.lists.roster_came("n2", {"lobby": [info("x")]})
    assert await watching == ["n3"]
    assert set(cluster.lists.members_of("lobby")) == {"a", "x"}


async def test_a_late_answer_is_told_as_changes() -> None:
    """The list was given without it."""
    cluster = Cluster("n2", timeout=0.01)
    alice, writer = cluster.join("a")
    await cluster.lists.watch(alice, "lobby")
    await cluster.flushed()
    writer.texts.clear()
    cluster.lists.roster_came("n2", {"lobby": [info("x")]})
    await cluster.flushed()
    assert [each["joined"] for each in writer.messages] == [[{"id": "x", "user": None}]]


async def test_a_thousand_joins_are_one_push() -> None:
    """Per watcher and interval, whatever the number of changes."""
    cluster = Cluster()
    alice, writer = cluster.join("a")
    await cluster.lists.watch(alice, "lobby")
    for number in range(1_000):
        cluster.join(f"m{number}")
    await cluster.flushed()
    assert len(writer.texts) == 1
    assert len(writer.messages[0]["joined"]) >= 1_000


async def test_changes_go_to_the_nodes_that_watch_and_to_no_other() -> None:
    """Gathered into one message per node, whatever the number of rooms."""
    cluster = Cluster("n2")
    cluster.join("a")
    await cluster.flushed()
    assert cluster.told == []
    assert cluster.lists.node_watches("n2", ["lobby", "other"]) == {"lobby": [info("a")], "other": []}
    cluster.join("b")
    cluster.join("c", "other")
    await cluster.flushed()
    assert cluster.told == [("n2", [RosterChange("lobby", [info("b")], []), RosterChange("other", [info("c")], [])])]
    cluster.lists.node_unwatches("n2", ["lobby", "other"])
    cluster.join("d")
    await cluster.flushed()
    assert len(cluster.told) == 1


async def test_the_members_of_a_dead_node_have_left() -> None:
    """And it watches nothing any more."""
    cluster = Cluster("n2")
    alice, writer = cluster.join("a")
    watching = asyncio.create_task(cluster.lists.watch(alice, "lobby"))
    await asyncio.sleep(0)
    cluster.lists.roster_came("n2", {"lobby": [info("x"), info("y")]})
    await watching
    await cluster.flushed()
    cluster.lists.node_watches("n2", ["lobby"])
    cluster.others.clear()
    cluster.lists.node_gone("n2")
    await cluster.flushed()
    assert {each["id"] for each in writer.messages[-1]["left"]} == {"x", "y"}
    cluster.join("b")
    await cluster.flushed()
    assert cluster.told == []


async def test_a_roster_that_comes_again_tells_the_difference() -> None:
    """After an interruption, nobody is told what they know."""
    cluster = Cluster("n2")
    alice, writer = cluster.join("a")
    watching = asyncio.create_task(cluster.lists.watch(alice, "lobby"))
    await asyncio.sleep(0)
    cluster.lists.roster_came("n2", {"lobby": [info("x"), info("y")]})
    await watching
    await cluster.flushed()
    writer.texts.clear()
    cluster.lists.roster_came("n2", {"lobby": [info("y"), info("z")]})
    await cluster.flushed()
    (push,) = writer.messages
    assert [each["id"] for each in push["joined"]] == ["z"]
    assert [each["id"] for each in push["left"]] == ["x"]


async def test_the_last_watcher_ends_the_watch() -> None:
    """The other nodes are told."""
    cluster = Cluster()
    alice, _ = cluster.join("a")
    bob, _ = cluster.join("b")
    await cluster.lists.watch(alice, "lobby")
    await cluster.lists.watch(bob, "lobby")
    cluster.lists.unwatch(alice, "lobby")
    assert cluster.unasked == []
    cluster.lists.unwatch(bob, "lobby")
    cluster.lists.unwatch(bob, "lobby")
    assert cluster.unasked == [["lobby"]]
    assert cluster.lists.watched_rooms == []
    cluster.lists.close()


def test_a_join_and_a_leave_cancel_out() -> None:
    """In both orders."""
    changes = Changes()
    changes.join(info("a"))
    changes.leave(info("a"))
    changes.leave(info("b"))
    changes.join(info("b"))
    assert not changes


async def test_pushes_are_counted_once_for_all_watchers() -> None:
    """As the messages and bytes that the watchers got; who knows already gets none."""
    cluster = Cluster()
    watchers = [cluster.join(name) for name in ("a", "b")]
    for member, _ in watchers:
        await cluster.lists.watch(member, "lobby")
    await cluster.flushed()
    for _, writer in watchers:
        writer.texts.clear()
    cluster.pushed.clear()
    cluster.join("c")
    await cluster.flushed()
    got = [text for _, writer in watchers for text in writer.texts]
    assert len(got) == 2
    assert cluster.pushed == [(2, sum(map(len, got)))]
