"""The Channels API that other people's consumers use, on every layer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.kinds import Cluster

HELLO = {"type": "chat.message", "text": "hello", "number": 7, "list": [1, None, True], "bytes": b"\x00\xff"}


async def consumer(layer: Any) -> tuple[str, asyncio.Task[Any]]:
    """A channel and the receive() that waits on it, begun first as Channels does."""
    channel = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    return channel, receiving


async def received(task: asyncio.Task[Any]) -> Any:
    return await asyncio.wait_for(task, 5)


async def test_send_reaches_the_channel(cluster: Cluster) -> None:
    """What send() is given, receive() returns, value for value, across processes."""
    layer = cluster.layer()
    channel, receiving = await consumer(layer)
    await cluster.layer().send(channel, HELLO)
    assert await received(receiving) == HELLO


async def test_messages_of_one_sender_keep_their_order(cluster: Cluster) -> None:
    """Messages sent one after the other arrive in that order."""
    layer = cluster.layer()
    channel = await layer.new_channel()
    for number in range(50):
        await layer.send(channel, {"type": "t", "number": number})
    got = [(await asyncio.wait_for(layer.receive(channel), 5))["number"] for _ in range(50)]
    assert got == list(range(50))


async def test_group_send_reaches_every_member_once(cluster: Cluster) -> None:
    """Each member gets a copy of its own: changing one changes no other."""
    layer = cluster.layer()
    members = [await consumer(layer) for _ in range(3)]
    for channel, _ in members:
        await layer.group_add("chat", channel)
    await layer.group_send("chat", HELLO)
    copies = [await received(receiving) for _, receiving in members]
    assert copies == [HELLO] * 3
    if cluster.kind.name == "core":
        return  # gives all members of one process the same object
    copies[0]["list"].append("changed")
    assert copies[1] == copies[2] == HELLO


async def test_group_discard_means_silence(cluster: Cluster) -> None:
    """After group_discard() the group's messages do not arrive; a later direct one does."""
    layer = cluster.layer()
    channel, receiving = await consumer(layer)
    await layer.group_add("chat", channel)
    await layer.group_discard("chat", channel)
    await layer.group_send("chat", {"type": "not.for.us"})
    await layer.send(channel, {"type": "sentinel"})
    assert await received(receiving) == {"type": "sentinel"}


async def test_discarding_a_stranger_is_harmless(cluster: Cluster) -> None:
    """group_discard() of a channel that is in no group does nothing, and does not raise."""
    layer = cluster.layer()
    channel = await layer.new_channel()
    await layer.group_discard("nobody-here", channel)


async def test_one_member_leaving_leaves_the_others(cluster: Cluster) -> None:
    """A group with members left goes on."""
    layer = cluster.layer()
    (left, _), (kept, receiving) = await consumer(layer), await consumer(layer)
    for channel in (left, kept):
        await layer.group_add("chat", channel)
    await layer.group_discard("chat", left)
    await layer.group_send("chat", HELLO)
    assert await received(receiving) == HELLO


async def test_adding_twice_delivers_once(cluster: Cluster) -> None:
    """group_add() is idempotent."""
    layer = cluster.layer()
    channel, receiving = await consumer(layer)
    await layer.group_add("chat", channel)
    await layer.group_add("chat", channel)
    await layer.group_send("chat", HELLO)
    await layer.group_send("chat", {"type": "sentinel"})
    assert await received(receiving) == HELLO
    assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "sentinel"}


async def test_sending_to_an_empty_group_is_harmless(cluster: Cluster) -> None:
    """group_send() to a group without members returns."""
    await cluster.layer().group_send("nobody", HELLO)


async def test_channel_names_are_unique(cluster: Cluster) -> None:
    """new_channel() never returns a name twice."""
    layer = cluster.layer()
    assert len({await layer.new_channel() for _ in range(20)}) == 20


@pytest.mark.parametrize("name", ["", "with space", "ümlaut", "a" * 100, "line\n", "*", "٣"])
async def test_bad_names_are_refused(cluster: Cluster, name: str) -> None:
    """Names that Channels does not allow raise TypeError; stock layers let some through."""
    if not cluster.kind.is_ours and (not cluster.kind.checks_names or name in ("line\n", "٣")):
        pytest.skip("this layer does not check it")
    layer = cluster.layer()
    with pytest.raises(TypeError):
        await layer.group_add(name, "specific.x")
    with pytest.raises(TypeError):
        await layer.send(name, HELLO)


async def test_another_event_loop_may_publish(cluster: Cluster) -> None:
    """group_send() from a thread with a loop of its own reaches a consumer, and leaves nothing open behind."""
    if cluster.kind.name == "in-memory":
        pytest.skip("asyncio queues are not safe across threads")
    layer = cluster.layer()
    channel, receiving = await consumer(layer)
    await layer.group_add("chat", channel)
    await asyncio.to_thread(lambda: asyncio.run(layer.group_send("chat", HELLO)))
    assert await received(receiving) == HELLO


async def test_flush_forgets_the_groups(cluster: Cluster) -> None:
    """After flush() the old members get nothing, and the layer works on."""
    layer = cluster.layer()
    old, receiving = await consumer(layer)
    await layer.group_add("chat", old)
    receiving.cancel()
    await asyncio.wait([receiving])
    await layer.flush()
    channel, receiving = await consumer(layer)
    await layer.group_add("chat", channel)
    await layer.group_send("chat", HELLO)
    assert await received(receiving) == HELLO
