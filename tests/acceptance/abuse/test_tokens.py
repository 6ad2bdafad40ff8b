"""Tokens that are not good, and good ones that end. (Attack 2.)"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.identities import (
    PRODUCTION,
    SECRET,
    Keys,
    add_people,
    forged_with,
    part,
    sample,
    token,
)
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.client import NothingCame
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

GRACE_SECONDS = 1.0
PACE_SECONDS = 0.05  # between two commands of a client that is not to meet the limit of its rate
TIMES = {"REALTIME_TOKEN_GRACE_SECONDS": str(GRACE_SECONDS), "REALTIME_TOKEN_LEEWAY_SECONDS": "0"}
REFUSED = 'realtime_authentications_refused_total{reason="%s"}'
WAYS = ("daphne", "uvicorn", "plain")


class House:
    """A node on daphne, one on uvicorn, and one that is served by plain ASGI; their people and keys."""

    def __init__(self, cluster: Cluster, keys: Keys) -> None:
        self.cluster = cluster
        self.keys = keys
        self.people = add_people(cluster)
        self.nodes = dict(zip(WAYS, cluster.nodes, strict=True))

    @property
    def node(self) -> DaphneNode:
        return self.nodes["daphne"]


@pytest.fixture(scope="module")
def shared_house(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    keys = Keys(tmp_path_factory.mktemp("keys"))
    cluster = Cluster(redis_server.url, nodes=1, environment={**PRODUCTION, **TIMES, **keys.setting})
    add_uvicorn(cluster, *UNCOMPRESSED)
    add_uvicorn(cluster, *UNCOMPRESSED, "--ws", "websockets")
    with cluster:
        yield House(cluster, keys)


@pytest.fixture
def house(request: pytest.FixtureRequest, shared_house: House) -> House:
    request.node.stash.setdefault(CLUSTERS, []).append(shared_house.cluster)
    return shared_house


def _none(house: House, user: str) -> str:
    return f"{part({'alg': 'none'})}.{part({'sub': user, 'exp': time.time() + 60})}."


BAD: dict[str, tuple[str, Callable[[House, str], str]]] = {
    "expired": ("expired", lambda house, user: token(user, exp=time.time() - 5)),
    "future nbf": ("not_yet_valid", lambda house, user: token(user, nbf=time.time() + 600)),
    "wrong secret": ("signature", lambda house, user: token(user, "x" * 40)),
    "wrong RSA key": (
        "signature",
        lambda house, user: token(user, rsa.generate_private_key(65537, 2048), "RS256", kid="r1"),
    ),
    "unknown kid": ("unknown_key", lambda house, user: token(user, house.keys.rsa, "RS256", kid="r0")),
    "alg none": ("algorithm", _none),
    "HS256 with the public key": ("signature", lambda house, user: forged_with(house.keys.public_rsa, user)),
    "another algorithm": ("algorithm", lambda house, user: token(user, SECRET * 2, "HS512")),
    "no end": ("claims", lambda house, user: token(user, exp=None)),
    "no user": ("claims", lambda house, user: token(user, sub=None)),
    "for somebody else": ("audience", lambda house, user: token(user, aud="mail")),
    "user of another database": ("user", lambda house, user: token("987654321")),
    "no token": ("malformed", lambda house, user: "no.token.at.all"),
    "brackets": ("malformed", lambda house, user: f"{'W' * 4000}.{'W' * 2000}.x"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_opens_nothing(house: House, connect: Connect, name: str) -> None:
    """In a message it is `unauthorized` and the client is nobody still; in the handshake the connection is closed with
    4001. A metric and the log name the cause, and no log has the token."""
    reason, make = BAD[name]
    bad = make(house, house.people["ann"])
    before = sample(house.node, REFUSED % reason)
    client = await connect(house.node.url)
    answer = await client.ask("authenticate", token=bad)
    assert (answer["type"], answer["code"]) == ("error", "unauthorized")
    assert (await client.ask("join", room="lobby"))["code"] == "unauthorized"
    assert (await client.do("authenticate", token=token(house.people["ann"])))["user"] == house.people["ann"]
    await client.join("lobby")
    assert await refused_in_the_handshake(house.node, bad) == 4001
    assert sample(house.node, REFUSED % reason) == before + 2
    assert f"reason={reason}" in house.node.log
    for part_of_it in filter(lambda each: len(each) > 20, bad.split(".")):
        assert part_of_it not in house.node.log
    assert_no_traceback(house.cluster)


async def refused_in_the_handshake(node: DaphneNode, bad: str) -> int | None:
    """The code with which a client is closed that sends this token in its handshake."""
    async with open_websocket(node.url, subprotocols=["realtime", f"token.{bad}"], proxy=None) as connection:  # type: ignore[list-item]
        try:
            async with asyncio.timeout(10):
                said = await connection.recv()
        except ConnectionClosed:
            return connection.close_code
        raise AssertionError(f"it was let in: {said!r}")


async def test_each_kind_of_key_is_good(house: House, connect: Connect) -> None:
    """HS256, RS256 with the id of its key and without, ES256."""
    ann = house.people["ann"]
    for good in (
        token(ann),
        token(ann, house.keys.rsa, "RS256", kid="r1"),
        token(ann, house.keys.rsa, "RS256"),
        token(ann, house.keys.ec, "ES256"),
    ):
        client = await connect(house.node.url)
        assert (await client.do("authenticate", token=good))["user"] == ann


@pytest.mark.parametrize("way", WAYS)
async def test_a_token_in_the_handshake(house: House, connect: Connect, way: str) -> None:
    """On each server: the welcome names the user, the answer is `realtime` alone, and no log has the token."""
    node, good = house.nodes[way], token(house.people["ann"])
    client = await connect(node.url, subprotocols=["realtime", f"token.{good}"])
    assert client.welcome["user"] == house.people["ann"]
    assert client.connection.subprotocol == "realtime"
    await client.join("lobby")
    assert await refused_in_the_handshake(node, token(1, "x" * 40)) == 4001
    in_the_url = await connect(f"{node.url}?token={good}&access_token={good}")
    assert in_the_url.welcome["user"] is None
    without = await connect(node.url)
    assert without.connection.subprotocol is None
    for part_of_it in good.split(".")[1:]:
        assert part_of_it not in node.log
    assert_no_traceback(house.cluster)


async def test_an_expired_token_ends_its_connection(house: House, connect: Connect) -> None:
    """After the grace with 4001, at rest or busy; those that were renewed in time live on."""
    ann = house.people["ann"]
    idle, busy, renewed, late = [await connect(house.node.url) for _ in range(4)]
    for client in (idle, busy, renewed, late):
        answer = await client.do("authenticate", token=token(ann, exp=time.time() + 3))
        assert 0 <= answer["expires_in"] <= 3
    before = sample(house.node, 'realtime_connections_evicted_total{reason="token_expired"}')
    await renewed.do("authenticate", token=token(ann))
    with contextlib.suppress(ConnectionClosed, NothingCame):
        async with asyncio.timeout(15):
            while await busy.is_alive():
                await asyncio.sleep(PACE_SECONDS)
    assert await idle.closed() == (4001, "Unauthorized")
    assert await busy.closed() == (4001, "Unauthorized")
    assert await late.closed() == (4001, "Unauthorized")
    assert await renewed.is_alive()
    assert sample(house.node, 'realtime_connections_evicted_total{reason="token_expired"}') == before + 3
    assert "cause=token_expired" in house.node.log


async def test_a_token_of_another_user(house: House, connect: Connect) -> None:
    """Is refused; the connection lives on as who it was, and is closed by its own token's end alone."""
    ann, ben = house.people["ann"], house.people["ben"]
    client, other = await connect(house.node.url), await connect(house.node.url)
    await client.do("authenticate", token=token(ann))
    await other.do("authenticate", token=token(ben))
    for _ in range(3):
        answer = await client.ask("authenticate", token=token(ben))
        assert (answer["code"], answer["message"]) == ("unauthorized", "This connection belongs to another user.")
    assert (await client.do("authenticate", token=token(ann)))["user"] == ann
    await other.do("private", to=f"user:{ann}", data="for ann")
    await client.expect("private", data="for ann")
    await other.do("private", to=f"user:{ben}", data="for ben")
    await other.expect("private", data="for ben")
    assert client.pushes("private") == [{"type": "private", "from": other.id, "data": "for ann"}]


async def test_nobody_can_order_what_code_orders(house: House, connect: Connect) -> None:
    """What travels between nodes is no command, and fields that name a user or a sender are ignored."""
    ann, ben = house.people["ann"], house.people["ben"]
    client, victim = await connect(house.node.url), await connect(house.node.url)
    await client.do("authenticate", token=token(ann), user=ben, session="x", identity={"user": ben})
    await victim.do("authenticate", token=token(ben))
    await client.join("forgery")
    await victim.join("forgery")
    order: dict[str, Any] = {
        "to": f"user:{ben}",
        "code": 4001,
        "cause": "logged_out",
        "request": "1",
        "reply_to": "x",
        "v": 1,
    }
    for kind in ("disconnect", "remove", "drain", "question", "goodbye", "heartbeat", "private_envelope"):
        assert (await client.ask(kind, **order))["code"] == "unknown_type"
    await client.do(
        "room", room="forgery", data=1, **{"from": victim.id, "sender": victim.id, "user": ben, "skip": "x"}
    )
    assert (await victim.expect("room"))["from"] == client.id
    assert await victim.is_alive()
    assert metric(house.node, "websocket_connected_clients") >= 2


def forges_tokens(target: Target) -> int:
    """Tokens that nobody signed, one after the other, each on a connection that is refused again and again."""
    forgeries = [
        f"{part({'alg': 'none'})}.{part({'sub': '1', 'exp': time.time() + 60})}.",
        token(1, "x" * 40),
        token(1, rsa.generate_private_key(65537, 2048), "RS256"),
        f"{'W' * 4000}.{'W' * 4000}.x",
    ]
    peers = [target.connect(source=f"127.6.6.{number + 1}") for number in range(20)]
    count = 0
    for number in target.paced(600):
        answer = peers[number % len(peers)].ask("authenticate", token=forgeries[number % len(forgeries)])
        assert answer["code"] == "unauthorized", answer
        count += 1
    for peer in peers:
        peer.leave()
    return count


def test_forgers_trouble_nobody(siege: Siege) -> None:
    """Hundreds of forged tokens a second are refused, counted and logged, and cost the others nothing."""
    siege.withstand(
        forges_tokens, metric="realtime_authentications_refused_total", log="authentication_refused .*reason="
    )
