"""The official client, in Node.js and in Chromium, on two nodes behind nginx that asks them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.acceptance.nodes import metric
from tests.acceptance.socketio.official import OfficialClient
from tests.conftest import CLUSTERS, StartCluster
from tests.support.browser import chromium
from tests.support.cluster import Cluster
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer

SCRIPT = CHECKOUT / "demo" / "static" / "demo" / "socket.io.min.js"
TRANSPORTS = {
    "polling only": ["polling"],
    "WebSocket only": ["websocket"],
    "upgrade": ["polling", "websocket"],
}
StartClient = Callable[..., Awaitable[OfficialClient]]


def in_turn(cluster: Cluster, *, by_session: bool = False) -> Cluster:
    """Let nginx ask the nodes in turn; and unless `by_session`, without a look at the session."""
    assert cluster.nginx is not None
    text = cluster.nginx.configuration.read_text()
    assert "least_conn;" in text
    assert "http://$socketio_nodes" in text
    text = text.replace("least_conn;", "")
    if not by_session:
        text = text.replace("http://$socketio_nodes", "http://nodes")
    cluster.nginx.configuration.write_text(text)
    return cluster


@pytest.fixture(scope="module")
def in_turn_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with in_turn(Cluster(redis_server.url, nodes=2, nginx=True)) as cluster:
        yield cluster


@pytest.fixture
def url(request: pytest.FixtureRequest, in_turn_cluster: Cluster) -> str:
    request.node.stash.setdefault(CLUSTERS, []).append(in_turn_cluster)
    assert in_turn_cluster.nginx is not None
    return in_turn_cluster.nginx.http_url


@pytest.fixture
async def start_client() -> AsyncIterator[StartClient]:
    clients: list[OfficialClient] = []

    async def start(url: str, **options: Any) -> OfficialClient:
        clients.append(await OfficialClient.start(url, **options))
        return clients[-1]

    yield start
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_two_clients_talk_without_sticky_sessions(
    url: str, start_client: StartClient, transports: list[str]
) -> None:
    """Join, chat, private, acknowledgements and bytes, whichever node each request reaches."""
    room = "-".join(transports)
    ann, ben = await asyncio.gather(*(start_client(url, transports=transports) for _ in range(2)))
    ids = [(await each.connected())["connect"] for each in (ann, ben)]
    if len(transports) == 2:
        for each in (ann, ben):
            await each.find(lambda told: told == {"upgrade": "websocket"}, "the upgrade")
    assert await ann.ask("join", room) == {"ok": True, "room": room}
    await ben.do("join", room)
    await ann.event("message", f"user {ids[1]} joined")
    for number in range(5):
        await ben.do("chat", room, {"number": number})
    for each in (ann, ben):
        for number in range(5):
            await each.event("message", {"room": room, "user": ids[1], "message": {"number": number}})
    await ann.do("private", ids[1], ["psst"])
    await ben.event("private", {"user": ids[0], "message": ["psst"]})
    await ann.do("room", room, {"picture": {"$hex": "00ff"}})
    await ben.event("message", {"room": room, "user": ids[0], "message": {"picture": {"$hex": "00ff"}}})
    assert (await ann.ask("chat", "nowhere", 1))["code"] == "not_joined"


async def test_requests_are_carried_and_need_not_be(
    url: str, in_turn_cluster: Cluster, start_cluster: StartCluster, start_client: StartClient
) -> None:
    """Without a look at the session id, about half of them; with nginx as delivered, none."""

    async def talk(cluster: Cluster) -> float:
        assert cluster.nginx is not None
        client = await start_client(cluster.nginx.http_url, transports=["polling"])
        await client.connected()
        for _ in range(6):
            await client.do("ping")
        return sum(metric(node, "realtime_socketio_carried_total") for node in cluster.nodes)

    assert await talk(in_turn_cluster) > 0
    assert await talk(await asyncio.to_thread(lambda: start_cluster(nodes=2, nginx=True))) == 0


async def test_a_client_comes_back_after_the_death_of_its_node(
    redis_server: RedisServer, start_client: StartClient
) -> None:
    """Over each transport; it joins again, and hears who is on the other node."""
    with await asyncio.to_thread(in_turn, Cluster(redis_server.url, nodes=2, nginx=True)) as cluster:
        assert cluster.nginx is not None
        address = cluster.nginx.http_url
        clients = await asyncio.gather(*(start_client(address, transports=each) for each in TRANSPORTS.values()))
        for client in clients:
            await client.connected()
        node = (await clients[0].ask("welcome"))["node"]
        killed = next(each for each in cluster.nodes if node.startswith(each.name))
        on_it = [client for client in clients if (await client.ask("welcome"))["node"] == node]
        await asyncio.to_thread(killed.kill)
        for client in on_it:
            await client.find(lambda told: "disconnect" in told, "the end")
            await client.connected()
        for client in clients:
            await client.do("join", "after")
        await clients[0].do("chat", "after", "still here")
        for client in clients:
            await client.find(lambda told: "still here" in str(told.get("args")), "the chat")


# -- Chromium --------------------------------------------------------------------------------------------------------

TALK = """
async ({ transports, room }) => {
  const told = (socket, event, fits) => new Promise((resolve) => {
    socket.on(event, function hear(value) { if (fits(value)) { socket.off(event, hear); resolve(value); } });
  });
  const [ann, ben] = [0, 1].map(() => io({ transports, forceNew: true, timeout: 20000 }));
  await Promise.all([ann, ben].map((each) => new Promise((resolve) => each.on("connect", resolve))));
  if (transports.length === 2) {
    await Promise.all([ann, ben].map(({ io: { engine } }) =>
      engine.transport.name === "websocket" || new Promise((resolve) => engine.once("upgrade", resolve))));
  }
  const names = [ann, ben].map((each) => each.io.engine.transport.name);
  await ann.emitWithAck("join", room);
  const notice = told(ann, "message", (value) => typeof value === "string");
  await ben.emitWithAck("join", room);
  const bytes = told(ben, "message", (value) => value.message?.data instanceof ArrayBuffer);
  const ack = await ann.emitWithAck("chat", room, { data: new Uint8Array([1, 2, 255]) });
  const result = { names, ack, notice: (await notice) === `user ${ben.id} joined`,
                   bytes: [...new Uint8Array((await bytes).message.data)] };
  ann.close(); ben.close();
  return result;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """An empty page of the cluster, with the official client in it."""
    context = browser.new_context()
    page = context.new_page()
    page.route(f"{url}/empty", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(f"{url}/empty")
    page.add_script_tag(path=SCRIPT)
    yield page
    context.close()


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
def test_chromium_talks_without_sticky_sessions(page: Page, transports: list[str]) -> None:
    """Join, chat, acknowledgement and bytes in a browser."""
    result = page.evaluate(TALK, {"transports": transports, "room": f"chromium {len(transports)} {transports[0]}"})
    assert result == {"names": [transports[-1]] * 2, "ack": {"ok": True}, "notice": True, "bytes": [1, 2, 255]}
