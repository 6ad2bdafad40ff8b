"""Numbered messages under way while something happens to a node."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.support.cluster import Cluster

PACE_SECONDS = 0.004  # between two messages of one sender
BEFORE, AFTER = 150, 150  # messages of each sender that somebody has received before the kill, and after coming back


class Traffic:
    """Numbered messages from one client into one room, until it is told to stop."""

    def __init__(self, client: Client, room: str) -> None:
        self.client = client
        self.sent = 0
        self._room = room
        self._is_wanted = True
        self._task = asyncio.create_task(self._send())

    async def stop(self) -> None:
        self._is_wanted = False
        await self._task
        await self.client.until(lambda: len(self.client.pushes("ack", "error")) == self.sent, "an answer to each")
        assert self.client.pushes("error") == []

    async def arrive_at(self, client: Client) -> None:
        """Wait until a client has the last message."""
        await client.until(lambda: numbers(client, self.client)[-1:] == [self.sent - 1], "the last message")

    async def _send(self) -> None:
        while self._is_wanted:
            await self.client.send("room", room=self._room, data=self.sent, echo=True, ref=self.sent)
            self.sent += 1
            await asyncio.sleep(PACE_SECONDS)


def numbers(client: Client, sender: Client) -> list[int]:
    return [push["data"] for push in client.pushes("room") if push["from"] == sender.id]


async def receive(client: Client, sender: Client, count: int) -> None:
    """Wait until a client has that many messages of a sender."""
    await client.until(lambda: len(numbers(client, sender)) >= count, f"{count} messages of traffic")


async def connected_to_each(cluster: Cluster, connect: Connect, count: int) -> dict[str, list[Client]]:
    """Clients that came through nginx, by node."""
    assert cluster.nginx is not None
    by_node: dict[str, list[Client]] = {}
    for _ in range(count):
        client = await connect(cluster.nginx.url)
        by_node.setdefault(client.node, []).append(await client.join("traffic"))
    assert len(by_node) == len(cluster.nodes)
    return by_node


async def assert_complete(
    traffic: list[Traffic], *, survivors: list[Client], victims: list[Client], returned: list[Client]
) -> None:
    """Survivors have every number in order; the others have no gap before the kill, and none after coming back."""
    for each in traffic:
        await each.stop()
    for each in traffic:
        for client in (*survivors, *returned):
            await each.arrive_at(client)
        for client in survivors:
            assert numbers(client, each.client) == list(range(each.sent))
        for client in victims:
            came = numbers(client, each.client)
            assert came == list(range(len(came)))
        for client in returned:
            came = numbers(client, each.client)
            assert came == list(range(came[0], each.sent))
