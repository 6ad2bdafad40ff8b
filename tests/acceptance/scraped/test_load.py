"""Three nodes under load: what Prometheus says afterwards is what the clients counted."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from tests.acceptance.client import Client
from tests.acceptance.nodes import eventually, get
from tests.acceptance.scraped.conftest import Scrape
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, require_program
from tests.support.dashboard import queries
from tests.support.prometheus import PrometheusServer
from tests.support.servers import RedisServer

CLIENTS = 24
LOAD_SECONDS = 6.0
PAUSE_SECONDS = 1.0  # less than a join waits for Redis before it fails
WITHIN = 60.0
LATENCY = "websocket_message_latency_seconds"
# The pause of Redis must make commands slow, and nothing else.
PATIENT = {
    "REALTIME_PUBLISH_TIMEOUT_SECONDS": "20",
    "REALTIME_HEARTBEAT_SECONDS": "20",
    "REALTIME_NODE_TIMEOUT_SECONDS": "60",
}


class Counted(Client):
    """Counts what it sends; what it gets is in `texts`."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.sent = 0

    async def send(self, type: str, **fields: Any) -> None:
        self.sent += 1
        await super().send(type, **fields)


@dataclass
class Life:
    """One client, and when its connection began and ended: not before, and not after."""

    client: Counted
    begun: tuple[float, float]
    ended: tuple[float, float] = (0.0, 0.0)

    @classmethod
    async def begin(cls, url: str) -> Life:
        before = time.monotonic()
        client = await Counted.connect(url)
        return cls(client, (before, time.monotonic()))

    async def end(self) -> None:
        before = time.monotonic()
        await self.client.close()
        self.ended = (before, time.monotonic())

    @property
    def shortest(self) -> float:
        return self.ended[0] - self.begun[1]

    @property
    def longest(self) -> float:
        return self.ended[1] - self.begun[0]


async def work(client: Counted, until: float) -> None:
    """Every kind of command, some of them wrong, one after the other."""
    while time.monotonic() < until:
        await client.do("ping")
        await client.do("room", room="lobby", data={"text": "hello"})
        await client.send("broadcast", data="to all")
        await client.do("private", to=client.id, data="to myself")
        assert (await client.ask("no such command"))["code"] == "unknown_type"


async def settle(clients: list[Counted]) -> None:
    """Wait until everybody has everything: each says its last words, in the room and to all."""
    last = {word for client in clients for word in own(client)}
    for client in clients:
        await client.do("room", room="lobby", data="last")
        await client.do("broadcast", data="last")
    for client in clients:
        await hears(client, last - own(client))
    for client in clients:  # who has left the room gets no more changes of its members
        await client.do("leave", room="lobby")


async def hears(client: Client, words: set[tuple[str, str]]) -> None:
    await client.until(lambda: words <= heard(client), "the last words", WITHIN)


def own(client: Client) -> set[tuple[str, str]]:
    return {("room", client.id), ("broadcast", client.id)}


def heard(client: Client) -> set[tuple[str, str]]:
    return {(each["type"], each["from"]) for each in client.received if each.get("data") == "last"}


async def asked_at_once(clients: list[Counted], type: str, **rooms: str) -> float:
    """All of them ask the same at the same time; the sum of what they waited."""

    async def ask(client: Counted) -> float:
        begun = time.monotonic()
        await client.do(type, within=30, **{name: value.format(client.id[-8:]) for name, value in rooms.items()})
        return time.monotonic() - begun

    return sum(await asyncio.gather(*map(ask, clients)))


async def slow_joins(clients: list[Counted], redis: RedisServer) -> tuple[float, float]:
    """Each joins a room of its own while Redis stands still: the least and the most that the nodes took for it.

    The most is what the clients waited. Some of that was their own time, as much as a ping takes them.
    """
    redis.pause()
    try:
        joining = asyncio.create_task(asked_at_once(clients, "join", room="own {}"))
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        redis.resume()
    waited = await joining
    return waited - await asked_at_once(clients, "ping"), waited


async def lived(
    cluster: Cluster, prometheus: PrometheusServer, redis: RedisServer
) -> tuple[list[Life], float, tuple[float, float]]:
    """Clients connect, work and go; their lives, the sum of their waits before those that can be measured from outside,
    and the sum of these."""
    lives = [await Life.begin(cluster.nodes[index % 3].url) for index in range(CLIENTS)]
    clients = [life.client for life in lives]
    for index, client in enumerate(clients):
        await client.join("lobby", members=index % 4 == 0)
    until = time.monotonic() + LOAD_SECONDS
    await asyncio.gather(*(work(client, until) for client in clients))
    assert prometheus.firing() == set()  # by the rules as they are shipped
    await settle(clients)
    sent = sum(client.sent for client in clients)
    await eventually(lambda: total(prometheus, f"{LATENCY}_count") == sent, "all commands so far are seen", WITHIN)
    before = total(prometheus, f"{LATENCY}_sum")
    waits = await slow_joins(clients, redis)
    await eventually(
        lambda: prometheus.value("sum(websocket_connected_clients)") == CLIENTS, "all are seen connected", WITHIN
    )
    await asyncio.gather(*(life.end() for life in lives))
    return lives, before, waits


def total(prometheus: PrometheusServer, name: str) -> float:
    found = prometheus.value(f"sum({name})")
    assert found is not None, name
    return found


async def test_the_five_metrics_are_what_the_load_generator_counted(
    start_cluster: StartCluster, own_redis: RedisServer, scrape: Scrape
) -> None:
    """Counts exactly, sums within 5 %; no alert fires; every query of the dashboard finds what its legend shows."""
    cluster = start_cluster(nodes=3, redis=own_redis, environment=PATIENT)
    prometheus = await asyncio.to_thread(scrape, cluster.nodes)
    lives, before, waits = await lived(cluster, prometheus, own_redis)
    durations = "websocket_connection_duration_seconds"
    await eventually(
        lambda: total(prometheus, f"{durations}_count") == CLIENTS, "Prometheus has seen all of them go", WITHIN
    )
    sent = sum(life.client.sent for life in lives)
    received = sum(len(life.client.texts) for life in lives)
    assert sent > CLIENTS * 20
    assert total(prometheus, "websocket_connected_clients") == 0
    assert total(prometheus, "websocket_messages_received_total") == sent
    assert total(prometheus, "websocket_messages_sent_total") == received
    assert total(prometheus, f"{LATENCY}_count") == sent
    latency = total(prometheus, f"{LATENCY}_sum") - before
    print(f"{latency:.2f} s of latency between {waits[0]:.2f} and {waits[1]:.2f} s, after {before:.2f} s")
    assert waits[0] * 0.95 <= latency <= waits[1] * 1.05
    lasted = sum(life.shortest for life in lives), sum(life.longest for life in lives)
    assert lasted[0] * 0.95 <= total(prometheus, f"{durations}_sum") <= lasted[1] * 1.05
    for expression, labels in queries():
        found = prometheus.query(expression)
        assert found, expression
        assert all(labels <= set(sample) for sample, _ in found), (expression, labels, found)


async def test_promtool_finds_nothing_to_say_about_a_real_page(start_cluster: StartCluster) -> None:
    """All of it: ours, Django's, the database's and the process's."""
    node = start_cluster(nodes=1).nodes[0]
    names = ("websocket_connected_clients ", "django_db_execute_total{", "django_http_requests_total_by_method_total{")
    pages: list[str] = []

    def has_all() -> bool:
        pages.append(get(f"{node.http_url}/metrics"))
        return all(f"\n{name}" in pages[-1] for name in names)

    await eventually(has_all, "rows were written and requests answered", WITHIN)
    promtool = [require_program("promtool"), "check", "metrics"]
    checked = subprocess.run(promtool, input=pages[-1], capture_output=True, text=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
