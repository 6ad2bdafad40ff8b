"""Two nodes of one process that lose sight of each other, on the memory layer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from realtime.conf import load
from realtime.hub import Member
from realtime.instrument import Instrument
from realtime.layers.memory import MemoryChannelLayer
from realtime.node import Node
from tests.unit.writers import RecordingWriter


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.005)


async def started(layer: MemoryChannelLayer, name: str) -> Node:
    node = Node(load({"NODE_NAME": name, "MEMBERS_INTERVAL_MS": 10}), layer.backplane(), Instrument())
    await node.start()
    await until(lambda: node.is_ready)
    return node


@pytest.fixture
async def layer() -> MemoryChannelLayer:
    return MemoryChannelLayer()


@pytest.fixture
async def pair(layer: MemoryChannelLayer) -> AsyncIterator[tuple[Node, Node]]:
    here, there = await started(layer, "here"), await started(layer, "there")
    await until(lambda: there.id in here.nodes.others and here.id in there.nodes.others)
    yield here, there
    for node in (here, there):
        if node.state != "stopped":
            await node.stop()


async def member(node: Node, name: str) -> tuple[Member, RecordingWriter]:
    writer = RecordingWriter()
    joined = Member(f"{node.id}.{name}", None, writer)
    await node.add(joined)
    await node.join(joined, "lobby")
    return joined, writer


def told(writer: RecordingWriter, kind: str) -> list[str]:
    return [info["id"] for push in writer.messages if push["type"] == "members" for info in push[kind]]


async def test_who_left_while_their_node_was_deaf_is_told_afterwards(pair: tuple[Node, Node]) -> None:
    """The other node never was: it asks again when it hears that this one is back."""
    here, there = pair
    watcher, writer = await member(here, "watcher")
    leaver, _ = await member(there, "leaver")
    assert await here.members.watch(watcher, "lobby") == []
    there.trust.subscription_lost()
    there.remove(leaver)
    await until(lambda: there.members._timer is None)  # the change was to be told meanwhile
    assert told(writer, "left") == []
    there.trust.subscription_resumed(())
    await until(lambda: told(writer, "left") == [leaver.id])
    assert here.trust.is_trusted


async def test_a_question_to_a_deaf_node_is_answered_when_it_hears_again(pair: tuple[Node, Node]) -> None:
    """Its members are told as joined, and so is who joins them later."""
    here, there = pair
    first, _ = await member(there, "first")
    watcher, writer = await member(here, "watcher")
    there.trust.subscription_lost()
    watching = asyncio.create_task(here.members.watch(watcher, "lobby"))
    there.trust.subscription_resumed(())
    await watching
    await until(lambda: first.id in here.members.members_of("lobby"))
    second, _ = await member(there, "second")
    await until(lambda: second.id in told(writer, "joined"))


async def test_a_node_that_said_goodbye_speaks_no_more(layer: MemoryChannelLayer, pair: tuple[Node, Node]) -> None:
    """Neither of itself nor to a node that appears while it ends: nobody takes it for alive again, and dead later."""
    here, there = pair
    heartbeat = here.heartbeat()
    there._lifecycle = "stopped"
    here.neighbours.gone(there.id)
    there.neighbours.announce()
    there.nodes.forget(here.id)
    there.neighbours.heard(heartbeat)
    newcomer = await started(layer, "newcomer")  # whose heartbeat comes after all that
    await until(lambda: newcomer.id in here.nodes.others)
    assert here.nodes.others == [newcomer.id]
    await until(lambda: here.id in newcomer.nodes.others and newcomer.id in there.nodes.others)
    (before,) = (node.heartbeat for node in newcomer.nodes if node.heartbeat.node == here.id)
    here.neighbours.announce()  # after whatever the ended one might have said
    await until(lambda: all(node.heartbeat is not before for node in newcomer.nodes))
    assert newcomer.nodes.others == [here.id]
    await newcomer.stop()
