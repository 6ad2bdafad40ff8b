"""What the tracker is told of live connections, from a real node and its connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from realtime.conf import load
from realtime.connection import Connection
from realtime.facts import ConnectionProgress, NullTracker
from realtime.handlers import HANDLERS
from realtime.instrument import Instrument
from realtime.layers.memory import MemoryChannelLayer
from realtime.node import Node
from realtime.progress import SLICE_CONNECTIONS, keep_rows_fresh, tell_progress, tell_who_lives
from realtime.protocol.frames import TALLY_BYTES_BITS
from tests.unit.writers import RecordingWriter


class ToldTracker(NullTracker):
    """Keeps what it is told, by the number of turns that the loop had made; ``room`` is for so many more."""

    def __init__(self) -> None:
        self.turn = 0
        self.room = 1_000_000
        self.is_slow = False
        self.asked = 0
        self.progress: list[tuple[int, str, ConnectionProgress]] = []
        self.living: list[tuple[int, str]] = []

    @property
    def is_behind(self) -> bool:
        self.asked += 1
        return self.is_slow

    def connection_progressed(self, connection_id: str, progress: ConnectionProgress) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.progress.append((self.turn, connection_id, progress))
        return True

    def connection_lives(self, connection_id: str) -> None:
        self.living.append((self.turn, connection_id))

    def told(self) -> list[str]:
        """The ids, since this was last asked."""
        ids = [connection_id for _, connection_id, _ in self.progress]
        self.progress.clear()
        return ids

    async def count_turns(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turn += 1


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    node = Node(load({}), MemoryChannelLayer().backplane(), Instrument())
    await node.start()
    async with asyncio.timeout(10):
        while not node.is_ready:
            await asyncio.sleep(0.01)
    yield node
    await node.stop()


async def connected(node: Node, count: int) -> list[Connection]:
    connections = [Connection(node, RecordingWriter(), HANDLERS) for _ in range(count)]
    for connection in connections:
        await node.add(connection)
    return connections


async def test_only_those_that_did_something_are_told(node: Node) -> None:
    """A message in, a message out, and a room that was left each make a row stale; rest does not."""
    tracker = ToldTracker()
    speaker, listener, member, idle = await connected(node, 4)
    ids = list(node.hub.connections)
    tell_progress(node.hub, tracker, ids)
    assert tracker.told() == ids  # what is in the rows was never told
    tell_progress(node.hub, tracker, ids)
    assert tracker.told() == []

    await speaker.handle(b'{"type":"ping"}')
    listener.writer.tally += 1 << TALLY_BYTES_BITS
    await node.join(member, "lobby")
    tell_progress(node.hub, tracker, ids)
    figures = {connection_id: progress for _, connection_id, progress in tracker.progress}
    assert set(figures) == {speaker.id, listener.id, member.id}
    assert (figures[speaker.id].messages_in, figures[speaker.id].bytes_in) == (1, len(b'{"type":"ping"}'))
    assert figures[listener.id].messages_out == 1
    assert figures[member.id].rooms == 1
    tracker.told()

    node.leave(member, "lobby")
    node.remove(listener)
    listener.writer.tally += 1 << TALLY_BYTES_BITS
    tell_progress(node.hub, tracker, ids)
    assert tracker.told() == [member.id]
    assert idle.told_mark == idle.progress_mark()


async def test_what_found_no_room_is_told_at_the_next_look(node: Node) -> None:
    """Nothing is forgotten, and nothing told twice."""
    tracker = ToldTracker()
    await connected(node, 5)
    ids = list(node.hub.connections)
    tracker.room = 2
    tell_progress(node.hub, tracker, ids)
    assert tracker.told() == ids[:2]
    tracker.room = 10
    tell_progress(node.hub, tracker, ids)
    assert tracker.told() == ids[2:]


async def test_ten_thousand_are_looked_at_in_slices(node: Node) -> None:
    """Between two slices the loop makes turns for others, and a database that is behind is told nothing."""
    tracker = ToldTracker()
    tracker.is_slow = True
    ids = [connection.id for connection in await connected(node, 10_000)]
    tasks = [
        asyncio.create_task(tracker.count_turns()),
        asyncio.create_task(keep_rows_fresh(node.hub, tracker, 0.05)),
    ]
    async with asyncio.timeout(60):
        while tracker.asked < 10_000 / SLICE_CONNECTIONS:
            await asyncio.sleep(0.01)
        assert tracker.progress == []
        tracker.is_slow = False
        while len(tracker.progress) < 10_000:
            await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    by_turn: dict[int, int] = {}
    for turn, _, _ in tracker.progress:
        by_turn[turn] = by_turn.get(turn, 0) + 1
    assert max(by_turn.values()) <= SLICE_CONNECTIONS
    assert sorted(tracker.told()) == sorted(ids)


async def test_who_lives_is_told_in_slices(node: Node) -> None:
    """Those that end before their slice comes are left out."""
    tracker = ToldTracker()
    connections = await connected(node, 3 * SLICE_CONNECTIONS)
    counting = asyncio.create_task(tracker.count_turns())
    telling = asyncio.create_task(tell_who_lives(node.hub, tracker))
    await asyncio.sleep(0)
    node.remove(connections[-1])
    await telling
    counting.cancel()
    by_turn: dict[int, int] = {}
    for turn, _ in tracker.living:
        by_turn[turn] = by_turn.get(turn, 0) + 1
    assert max(by_turn.values()) == SLICE_CONNECTIONS
    assert [connection_id for _, connection_id in tracker.living] == [each.id for each in connections[:-1]]
