"""Clients that do not say who they are, and those that say it twice. (Attack 4.)"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import StartSiege
from tests.acceptance.abuse.identities import PRODUCTION, SECRET, add_people, sample, token
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually, metric
from tests.acceptance.socketio.peer import Refused, Socket, Talker
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

AUTHENTICATE_SECONDS = 4.0
SILENT = 300
AGAIN = 60
PACE_SECONDS = 0.1  # between two commands of a client that is not to meet the limit of its rate
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


def address(number: int) -> tuple[str, int]:
    """Where the attackers come from: a hundred from each address."""
    return f"127.7.0.{number // 100 + 1}", 0


async def test_hundreds_that_never_say_who_they_are(house: House, connect: Connect) -> None:
    """Each is closed with 4001 in time, whatever else it says; who has said it is served all the while."""
    member = await connect(house.node.url)
    await member.do("authenticate", token=token(house.people["ann"]))
    await member.join("lobby")
    before, began = sample(house.node, EVICTED), time.monotonic()
    silent = await asyncio.gather(*(connect(house.node.url, local_addr=address(n)) for n in range(SILENT)))
    talking = silent[0]
    async with asyncio.timeout(30):
        while not talking.is_closed:
            with contextlib.suppress(ConnectionClosed):
                await talking.send("ping")
            assert await member.is_alive()
            await asyncio.sleep(PACE_SECONDS)
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
    """The same user is one connection with one deadline; another user is refused each time, and logged now and then."""
    ann, ben = house.people["ann"], house.people["ben"]
    client = await connect(house.node.url)
    good, foreign = token(ann), token(ben)
    for _ in range(AGAIN):
        await client.do("authenticate", token=good)
        assert (await client.ask("authenticate", token=foreign))["code"] == "unauthorized"
    other = await connect(house.other.url)
    await other.do("authenticate", token=foreign)
    await other.do("private", to=f"user:{ann}", data="one")
    await other.do("private", to=f"user:{ann}", data="two")
    assert [message["data"] for message in await client.collect("private", 2)] == ["one", "two"]
    refusals = house.node.log.count("reason=other_user")
    assert 1 <= refusals < AGAIN
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


def says_nothing(target: Target) -> int:
    """Two hundred upgrades, and then silence; each is closed by the node."""
    peers = [target.connect(source=f"127.6.{number // 50}.{number % 50 + 1}") for number in target.paced(200)]
    for peer in peers:
        assert peer.closed()[0] == 4001
        peer.abort()  # the node may have cut it by now
    return len(peers)


def test_the_silent_trouble_nobody(start_siege: StartSiege) -> None:
    """They are closed in time, counted and logged; the others notice nothing, and nothing of them stays in memory."""
    siege = start_siege(AUTHENTICATE_SECONDS=1)
    siege.withstand(says_nothing, metric=EVICTED, log="credential_ended .*cause=not_authenticated")
