"""Rates as a client meets them: what is refused, what is not even read, and when it is too much."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from pytest_django import Settings

from realtime.auth import issue_token
from realtime.instrument import Instrument
from realtime.neighbours import Neighbours
from realtime.protocol.envelope import READS, Heartbeat, decode, encode
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime

StartProcess = Callable[..., Awaitable[Runtime]]


async def inner(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(inner)


class Refusals(Instrument):
    """Keeps why handshakes were refused."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def connection_refused(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[StartProcess]:
    """This process with a node on the memory layer, without a database, and rates that only these settings set."""
    process = runtime()
    instrument = process.instrument

    async def started(**changes: Any) -> Runtime:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
        settings.REALTIME = {
            "DEFAULTS": "development",
            "TRACKING_IS_ON": False,
            "DRAIN_DEADLINE_SECONDS": 7.0,
            **changes,
        }
        process.instrument = Refusals()
        process.reload_settings()
        await process.start()
        return process

    yield started
    await process.stop()
    process.instrument = instrument
    process.reload_settings()


class Client(WebsocketCommunicator):
    """A client of the JSON protocol."""

    def __init__(self, address: str = "10.0.0.1", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(cast(Any, application), "/ws/", headers)
        self.scope["client"] = (address, 50_000)

    async def enter(self) -> None:
        assert (await self.connect())[0]
        self.id = (await self.read())["id"]

    async def read(self) -> Any:
        return json.loads(await self.receive_from(timeout=5))

    async def say(self, **command: object) -> None:
        await self.send_to(text_data=json.dumps(command))

    async def ask(self, **command: object) -> Any:
        await self.say(**command)
        return await self.read()

    async def closed(self) -> tuple[int, str]:
        output = await self.receive_output(timeout=5)
        assert output["type"] == "websocket.close", output
        return output["code"], output["reason"]


async def test_what_is_over_the_rate_is_not_read(start: StartProcess) -> None:
    """`rate_limited` with `retry_after` and no `ref`, whatever it is; of a publication nothing arrives."""
    await start(COMMANDS_PER_SECOND=0.01, COMMANDS_BURST=3)
    ann, ben = Client(), Client("10.0.0.2")
    await ann.enter()
    await ben.enter()
    assert (await ann.ask(type="ping", ref=1))["type"] == "pong"
    assert (await ann.ask(type="no such type", ref=2))["code"] == "unknown_type"
    await ann.send_to(bytes_data=b"binary")
    assert (await ann.read())["code"] == "bad_message"
    for command in ({"type": "broadcast", "data": "unheard", "ref": 3}, {"type": "ping"}):
        refused = await ann.ask(**command)
        assert 98 <= refused.pop("retry_after") <= 100
        assert refused.pop("message")
        assert refused == {"type": "error", "code": "rate_limited"}
    await ann.send_to(text_data="{")
    assert (await ann.read())["code"] == "rate_limited"
    await ann.send_to(bytes_data=b"binary")
    assert (await ann.read())["code"] == "rate_limited"
    assert (await ben.ask(type="broadcast", data="heard", echo=True))["data"] == "heard"
    await ann.disconnect()
    await ben.disconnect()


async def test_who_goes_on_is_closed(start: StartProcess) -> None:
    """After as many refusals as are allowed in a time: 1008, and what was sent after that is not answered."""
    process = await start(COMMANDS_PER_SECOND=0.01, COMMANDS_BURST=2, REFUSALS_MAX=3, REFUSALS_SECONDS=60.0)
    client = Client()
    await client.enter()
    for _ in range(9):
        await client.say(type="ping")
    answers = [await client.read() for _ in range(5)]
    assert [answer.get("code", answer["type"]) for answer in answers] == ["pong"] * 2 + ["rate_limited"] * 3
    assert await client.closed() == (1008, "Policy violation")
    assert await client.receive_nothing(timeout=0)
    assert process.node is not None
    assert len(process.node.hub) == 0
    await client.disconnect()


async def test_joins_and_broadcasts_have_rates_of_their_own(start: StartProcess) -> None:
    """The `ref` is there, as they were read; other commands go on; too many of these close as well."""
    await start(
        JOINS_PER_SECOND=0.01, JOINS_BURST=2, BROADCASTS_PER_SECOND=0.01, BROADCASTS_BURST=1,
        REFUSALS_MAX=2, REFUSALS_SECONDS=60.0,
    )  # fmt: skip
    client = Client()
    await client.enter()
    for room in ("a", "b"):
        assert (await client.ask(type="join", room=room))["type"] == "joined"
    refused = await client.ask(type="join", room="c", ref=1)
    assert (refused["code"], refused["ref"]) == ("rate_limited", 1)
    assert refused["retry_after"] > 90
    assert (await client.ask(type="broadcast", data=1, ref=2))["type"] == "ack"
    refused = await client.ask(type="broadcast", data=1, ref=3)
    assert (refused["code"], refused["ref"]) == ("rate_limited", 3)
    assert (await client.ask(type="room", room="a", data=1, ref=4))["type"] == "ack"
    other = Client()
    await other.enter()
    await other.ask(type="join", room="a")
    await client.say(type="broadcast", data=1, ref=5)
    await client.say(type="private", to=f"{other.id}", data="too late")
    assert (await client.closed())[0] == 1008
    await client.disconnect()
    assert (await other.ask(type="broadcast", data=1, echo=True))["type"] == "broadcast"
    await other.disconnect()


async def test_connections_of_a_user_and_of_an_address_share(start: StartProcess) -> None:
    """What one of them has spent the others do not have; another user at another address has all of it."""
    await start(
        USER_COMMANDS_PER_SECOND=0.01, USER_COMMANDS_BURST=2, ADDRESS_COMMANDS_PER_SECOND=0.01, ADDRESS_COMMANDS_BURST=5
    )
    clients = [Client("10.0.0.1"), Client("10.0.0.2"), Client("10.0.0.2")]
    for client in clients:
        await client.enter()
    for client, user in zip(clients, ("7", "7", "8"), strict=True):
        assert (await client.ask(type="authenticate", token=issue_token(user)))["type"] == "authenticated"
    one, two, other = clients
    assert [(await each.ask(type="ping"))["type"] for each in (one, two, one, two)] == ["pong"] * 2 + ["error"] * 2
    assert [(await other.ask(type="ping"))["type"] for _ in range(3)] == ["pong"] * 2 + ["error"]  # its user's two
    for client in clients:
        await client.disconnect()


async def test_a_flood_of_handshakes_is_refused_before_anybody_asks_who_it_is(start: StartProcess) -> None:
    """A session cookie costs a query of the database, which this test does not have: it is not looked at."""
    process = await start(ADDRESS_CONNECTS_PER_SECOND=0.01, ADDRESS_CONNECTS_BURST=2)
    here = [Client() for _ in range(2)]
    for client in here:
        await client.enter()
    flooder = Client(headers=[(b"cookie", b"sessionid=abcdefghijklmnopqrstuvwxyz012345")])
    assert (await flooder.connect())[0] is False
    elsewhere = Client("10.0.0.2")
    await elsewhere.enter()
    assert isinstance(process.instrument, Refusals)
    assert process.instrument.reasons == ["address_rate"]
    for client in (*here, elsewhere):
        await client.disconnect()


async def test_so_many_connections_of_an_address(start: StartProcess) -> None:
    """One more is refused until another has gone; one that was refused for a full node takes no place."""
    process = await start(ADDRESS_CONNECTIONS_MAX=2, CONNECTIONS_MAX=3, EVICT_INACTIVE_SECONDS=3600.0)
    clients = [Client() for _ in range(2)]
    for client in clients:
        await client.enter()
    assert (await Client().connect())[0] is False
    other = Client("10.0.0.2")
    await other.enter()
    for _ in range(3):
        assert (await Client("10.0.0.2").connect())[0] is False
    await clients[0].disconnect()
    successor = Client()
    await successor.enter()
    assert isinstance(process.instrument, Refusals)
    assert process.instrument.reasons == ["address_connections", "capacity", "capacity", "capacity"]
    for client in (clients[1], other, successor):
        await client.disconnect()
    assert process.node is not None
    assert [source.connections for source in process.node.throttle.addresses] == []


async def test_one_connection_too_many_of_a_user(start: StartProcess) -> None:
    """It is welcomed and closed with 1008; the others stay, and the next one is let in when one of them has gone."""
    process = await start(USER_CONNECTIONS_MAX=2)
    clients = [Client(f"10.0.0.{number}") for number in range(1, 5)]
    for client in clients:
        await client.enter()
    for client in clients[:3]:
        await client.say(type="authenticate", token=issue_token("7"))
    for client in clients[:2]:
        assert (await client.read())["type"] == "authenticated"
    assert await clients[2].closed() == (1008, "Policy violation")
    await clients[2].disconnect()
    assert [(await client.ask(type="ping"))["type"] for client in clients[:2]] == ["pong"] * 2
    await clients[0].disconnect()
    assert (await clients[3].ask(type="authenticate", token=issue_token("7")))["type"] == "authenticated"
    assert process.node is not None
    assert [source.connections for source in process.node.throttle.users] == [2]
    for client in (clients[1], clients[3]):
        await client.disconnect()
    assert [source.connections for source in process.node.throttle.users] == []


def heartbeat(**changes: Any) -> Heartbeat:
    """Of another node."""
    fields = {"v": 1, "node": "other-000000", "address": "", "version": "1", "reads": list(READS), "started": 0.0}
    return Heartbeat(**{**fields, "state": "ready", **changes})


async def test_what_a_user_spent_on_another_node_counts(start: StartProcess) -> None:
    """The other node says so in its heartbeat."""
    process = await start(USER_COMMANDS_PER_SECOND=0.01, USER_COMMANDS_BURST=50)
    client = Client()
    await client.enter()
    await client.ask(type="authenticate", token=issue_token("7"))
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert process.node is not None
    neighbours: Neighbours = process.node.neighbours
    neighbours.heard(heartbeat(spent={"7": 47, "8": 1_000}))
    assert [(await client.ask(type="ping"))["type"] for _ in range(2)] == ["pong", "pong"]
    assert (await client.ask(type="ping"))["code"] == "rate_limited"
    await client.disconnect()


async def test_a_node_tells_what_users_spent(start: StartProcess) -> None:
    """Once, in its next heartbeat; nodes without this field read the heartbeat all the same."""
    process = await start(USER_COMMANDS_PER_SECOND=1.0, USER_COMMANDS_BURST=50)
    client = Client()
    await client.enter()
    await client.ask(type="authenticate", token=issue_token("7"))
    for _ in range(9):
        await client.ask(type="ping")
    assert process.node is not None
    assert process.node.throttle.tell() == {"7": 9}  # the user's own since it is one
    assert process.node.throttle.tell() == {}
    text = encode(heartbeat(spent={"7": 9}))
    assert decode(text) == heartbeat(spent={"7": 9})
    assert decode(text.replace(b'"spent"', b'"of a later version"')) == heartbeat()
    await client.disconnect()
