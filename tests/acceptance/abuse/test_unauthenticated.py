"""Clients that do not say who they are, and those that say it twice. (Attack 4.)"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.acceptance.abuse.identities import PRODUCTION, SECRET, add_people, sample, token
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually, metric
from tests.acceptance.socketio.peer import Refused, Socket, Talker
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

AUTHENTICATE_SECONDS = 2.0
SILENT = 300
EVICTED = 'realtime_connections_evicted_total{reason="not_authenticated"}'
OWN = {"REALTIME_TOKEN_KEYS": SECRET, "REALTIME_AUTHENTICATE_SECONDS": str(AUTHENTICATE_SECONDS)}


class House:
    """A node on daphne and one on uvicorn, with people."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.people = add_people(cluster)
        self.node, self.other = cluster.nodes


@pytest.fixture(scope="module")
def shared_house(redis_server: RedisServer) -> Iterator[House]:
    cluster = Cluster(redis_server.url, nodes=1, environment={**PRODUCTION, **OWN})
    add_uvicorn(cluster, *UNCOMPRESSED)
    with cluster:
        yield House(cluster)


@pytest.fixture
def house(request: pytest.FixtureRequest, shared_house: House) -> House:
    request.node.stash.setdefault(CLUSTERS, []).append(shared_house.cluster)
    return shared_house


async def test_hundreds_that_never_say_who_they_are(house: House, connect: Connect) -> None:
    """Each is closed with 4001 in time, whatever else it says; who has said it is served all the while."""
    member = await connect(house.node.url)
    await member.do("authenticate", token=token(house.people["ann"]))
    await member.join("lobby")
    before, began = sample(house.node, EVICTED), time.monotonic()
    silent = await asyncio.gather(*(connect(house.node.url) for _ in range(SILENT)))
    talking = silent[0]
    async with asyncio.timeout(30):
        while not talking.is_closed:
            with contextlib.suppress(ConnectionClosed):
                await talking.send("ping")
            assert await member.is_alive()
    seconds = time.monotonic() - began
    for client in silent:
        assert await client.closed(30) == (4001, "Unauthorized")
        assert client.pushes() == []  # nothing that others say
    print(f"{SILENT} that said nothing were closed; the talking one after {seconds:.2f} s")
    assert sample(house.node, EVICTED) == before + SILENT
    assert "cause=not_authenticated" in house.node.log
    await eventually(lambda: metric(house.node, "websocket_connected_clients") == 1, "they are gone")
    assert await member.is_alive()
    assert_no_traceback(house.cluster)


async def test_nothing_is_done_for_nobody(house: House, connect: Connect) -> None:
    """Commands are `unauthorized` on each server, broadcasts of others do not come; with a token all of it does."""
    for node in (house.node, house.other):
        member, nobody = await connect(node.url), await connect(node.url)
        await member.do("authenticate", token=token(house.people["ben"]))
        for type, fields in (
            ("join", {"room": "lobby"}),
            ("leave", {"room": "lobby"}),
            ("room", {"room": "lobby", "data": 1}),
            ("broadcast", {"data": "from nobody"}),
            ("private", {"to": member.id, "data": 1}),
        ):
            assert (await nobody.ask(type, **fields))["code"] == "unauthorized", type
        await member.do("broadcast", data="members only")
        assert (await member.ask("private", to=nobody.id, data=1))["code"] == "unknown_recipient"
        assert await nobody.is_alive()
        await nobody.do("authenticate", token=token(house.people["ann"]))
        await member.do("broadcast", data="sentinel")
        assert (await nobody.expect("broadcast"))["data"] == "sentinel"
        assert len(nobody.pushes()) == 1


async def test_authenticating_again_and_again(house: House, connect: Connect) -> None:
    """The same user a thousand times over is one connection with one deadline; another user is refused each time."""
    ann, ben = house.people["ann"], house.people["ben"]
    client = await connect(house.node.url)
    good, foreign = token(ann), token(ben)
    for _ in range(300):
        await client.do("authenticate", token=good)
        assert (await client.ask("authenticate", token=foreign))["code"] == "unauthorized"
    other = await connect(house.other.url)
    await other.do("authenticate", token=foreign)
    await other.do("private", to=f"user:{ann}", data="one")
    await other.do("private", to=f"user:{ann}", data="two")
    assert [message["data"] for message in await client.collect("private", 2)] == ["one", "two"]
    refusals = house.node.log.count("reason=other_user")
    assert 1 <= refusals < 300
    assert_no_traceback(house.cluster)


async def test_a_socketio_client_that_is_nobody(house: House) -> None:
    """Is told `unauthorized` instead of being let in, and closed if it stays; a token lets it in."""
    url = f"{house.node.http_url}/socket.io/"
    with pytest.raises(Refused, match=r'^44\{.*"code":"unauthorized"'):
        await Talker.connect(url)
    with pytest.raises(Refused, match=r'^44\{.*"code":"unauthorized"'):
        await Talker.connect(url, auth={"token": token(house.people["ann"], "x" * 40)})
    ann = await Talker.connect(url, auth={"token": token(house.people["ann"])})
    assert (await ann.do("welcome"))["user"] == house.people["ann"]
    stays = await Socket.open(url)
    await stays.handshake()
    await stays.send("40{}")
    assert str(await stays.next()).startswith("44")
    assert await stays.ended() == 4001
    await ann.close()
    assert_no_traceback(house.cluster)
