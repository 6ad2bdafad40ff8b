"""One room, five senders on different nodes at full speed: one sequence for everybody, and nothing lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.support.cluster import Cluster

SENDERS = 5
MESSAGES = 2_000
WITHIN_SECONDS = 60.0

Sequence = list[tuple[str, int]]


def sequence_of(client: Client) -> Sequence:
    """What a client received: sender and number, in the order of arrival."""
    return [(push["from"], push["data"]) for push in client.pushes("room")]


def without(sequence: Sequence, sender: Client) -> Sequence:
    return [message for message in sequence if message[0] != sender.id]


async def send_all(client: Client, rng: random.Random, *, echo: bool) -> None:
    """Numbered messages in bursts of random length, none of them awaited."""
    numbers: Iterable[int] = iter(range(MESSAGES))
    left = MESSAGES
    while left:
        burst = min(left, rng.randint(1, 100))
        for number in (number for _, number in zip(range(burst), numbers, strict=False)):
            await client.send("room", room="order", data=number, echo=echo)
        left -= burst
        await asyncio.sleep(0)  # another sender's turn
    await client.do("ping")


@pytest.mark.parametrize("echo", [False, True])
async def test_every_member_sees_the_same_sequence(
    module_cluster: Cluster, connect: Connect, rng: random.Random, echo: bool
) -> None:
    """Each sender's messages arrive in order, each once, and all members see one sequence; who is left out of its own
    messages sees the same without them."""
    nodes = [module_cluster.nodes[index % 3].url for index in range(SENDERS + 3)]
    clients = await asyncio.gather(*(connect(url) for url in nodes))
    senders, receivers = clients[:SENDERS], clients[SENDERS:]
    for client in clients:
        await client.join("order")
    await asyncio.gather(*(send_all(sender, rng, echo=echo) for sender in senders))
    for client in clients:
        expected = MESSAGES * (SENDERS - (client in senders and not echo))
        await client.collect("room", expected, WITHIN_SECONDS)
        assert await client.is_alive()
    common = sequence_of(receivers[0])
    assert len(common) == MESSAGES * SENDERS
    for sender in senders:
        assert [number for who, number in common if who == sender.id] == list(range(MESSAGES))
        assert sequence_of(sender) == (common if echo else without(common, sender))
    for receiver in receivers:
        assert sequence_of(receiver) == common
        assert receiver.pushes("missed") == []
    assert {"ack", "error"}.isdisjoint(message["type"] for client in clients for message in client.received)
