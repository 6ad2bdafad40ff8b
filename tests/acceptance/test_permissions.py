"""One class judges plain clients and Socket.IO clients alike, on a real node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from realtime.auth import issue_token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import get, use_application
from tests.acceptance.socketio.conftest import APPLICATION
from tests.acceptance.socketio.peer import Refused, Talker
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

KEY = "a-key-of-this-test-alone-0123456789abcdef"
SETTINGS = {
    "REALTIME_TOKEN_KEYS": KEY,
    "REALTIME_PERMISSIONS": "tests.acceptance.permissions.ShopPermissions",
    "REALTIME_SOCKETIO_JOIN_NOTICES": "0",
}
FORBIDDEN = {"ok": False, "code": "forbidden", "message": "This identity may not do that."}


@pytest.fixture(scope="module")
def shop(redis_server: RedisServer) -> Iterator[Cluster]:
    with use_application(Cluster(redis_server.url, nodes=1, environment=SETTINGS), APPLICATION) as cluster:
        yield cluster


@pytest.fixture
def node(request: pytest.FixtureRequest, shop: Cluster) -> DaphneNode:
    request.node.stash.setdefault(CLUSTERS, []).append(shop)
    return shop.nodes[0]


def token(user: int) -> str:
    return issue_token(user, keys=[KEY])


async def talker(node: DaphneNode, user: int | None = None, namespace: str = "/") -> Talker:
    auth: dict[str, Any] = {"silent": True} | ({} if user is None else {"token": token(user)})
    return await Talker.connect(f"{node.http_url}/socket.io/", namespace=namespace, auth=auth)


async def code(client: Client, type: str, **fields: Any) -> str:
    reply = await client.ask(type, **fields)
    return str(reply.get("code", reply["type"]))


async def test_plain_clients_are_judged(node: DaphneNode, connect: Connect) -> None:
    """Rooms by pattern, for whom they are; a class that fails lets nobody through, and says so once for some."""
    client = await connect(node.url)
    assert await code(client, "join", room="lobby") == "forbidden"
    assert await code(client, "join", room="reading-1") == "joined"
    assert await code(client, "room", room="reading-1", data=1) == "forbidden"
    assert await code(client, "broadcast", data=1) == "forbidden"
    assert await code(client, "authenticate", token=token(13)) == "forbidden"
    await client.do("authenticate", token=token(7))
    assert await code(client, "join", room="lobby") == "joined"
    assert await code(client, "room", room="lobby", data=1) == "ack"
    assert await code(client, "join", room="private-prices") == "forbidden"
    assert await code(client, "private", to="user:7", data=1) == "ack"
    log = len(node.log)
    for _ in range(30):
        assert await code(client, "private", to="user:0", data=1) == "internal_error"
    assert 1 <= node.log[log:].count("ZeroDivisionError: ") <= 15  # one in two seconds
    assert f"permissions_failed action=may_send_private what='user:0' user='7' connection={client.id}" in node.log


async def test_socketio_clients_are_judged_by_the_same(node: DaphneNode) -> None:
    """Each event of ours; not the project's own, which decides for itself."""
    nobody, user = await talker(node), await talker(node, 7)
    assert await nobody.ask("join", "lobby") == FORBIDDEN
    assert (await nobody.do("join", "reading-1"))["room"] == "reading-1"
    assert await nobody.ask("chat", "reading-1", "hello") == FORBIDDEN
    assert await nobody.ask("room", "reading-1", "hello") == FORBIDDEN
    assert await nobody.ask("broadcast", "hello") == FORBIDDEN
    assert (await nobody.ask("authenticate", token(13)))["message"] == "Not you."
    await user.do("join", "reading-1")
    assert await user.ask("join", "private-prices") == FORBIDDEN
    assert await user.ask("chat", "reading-1", "hello") == FORBIDDEN
    await nobody.emit("price", "reading-1", 7)
    assert await user.expect("price") == [{"amount": 7}]
    for each in (nobody, user):
        await each.close()


async def test_namespaces_are_judged(node: DaphneNode) -> None:
    """Who may enter one, its rooms by their own rules, and a broadcast that stays in it."""
    for user, message in ((None, "This identity may not do that."), (13, "Not you.")):
        with pytest.raises(Refused) as refusal:
            await talker(node, user, "/custom")
        assert '"code":"forbidden"' in str(refusal.value).replace(" ", "")
        assert message in str(refusal.value)
    ann, ben, main = await talker(node, 7, "/custom"), await talker(node, 8, "/custom"), await talker(node, 7)
    await ann.do("join", "private-prices")
    assert await ann.ask("chat", "private-prices", "hello") == FORBIDDEN
    assert await ann.ask("join", "private-others") == FORBIDDEN
    await ann.do("broadcast", "to all in here")
    assert (await ben.expect("broadcast"))[0]["message"] == "to all in here"
    assert await main.ask("broadcast", "to all") == FORBIDDEN
    assert main.events == []
    for each in (ann, ben, main):
        await each.close()


async def test_refusals_are_counted(node: DaphneNode, connect: Connect) -> None:
    """By code, commands and connections apart."""
    client = await connect(node.url)
    await code(client, "join", room="lobby")
    with pytest.raises(Refused):
        await talker(node, 13)
    metrics = get(f"{node.http_url}/metrics")
    for sample in (
        'realtime_errors_total{code="forbidden"}',
        'realtime_connections_refused_total{reason="forbidden"}',
    ):
        assert f"{sample} 0.0" not in metrics
        assert sample in metrics
