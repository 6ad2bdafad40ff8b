"""Socket.IO clients that do not keep to the protocol, or go at the wrong moment, on a node in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from channels.testing import HttpCommunicator, WebsocketCommunicator

from realtime.layers.backplane import Listener
from realtime.protocol.names import node_channel, session_id
from realtime.routing import realtime_application
from realtime.runtime import runtime
from realtime.socketio import Client
from realtime.socketio.events import Namespace, registry
from realtime.testing import RealtimeNode

TIGHT = {"COMMANDS_PER_SECOND": 1.0, "COMMANDS_BURST": 5, "REFUSALS_MAX": 3}


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


APPLICATION = cast(Any, realtime_application(nothing))


def request(method: str, sid: str = "", body: bytes = b"") -> HttpCommunicator:
    """A poll or a post."""
    path = "/socket.io/?EIO=4&transport=polling" + (sid and f"&sid={sid}")
    return HttpCommunicator(APPLICATION, method, path, body)


async def open_polling() -> str:
    """The id of a new session."""
    response = await request("GET").get_response()
    return str(json.loads(response["body"][1:])["sid"])


async def open_websocket(sid: str = "") -> WebsocketCommunicator:
    """The WebSocket of a new session, or of an upgrade."""
    client = WebsocketCommunicator(APPLICATION, "/socket.io/?EIO=4&transport=websocket" + (sid and f"&sid={sid}"))
    assert (await client.connect())[0]
    return client


async def close_code(client: WebsocketCommunicator) -> int:
    """Wait for the end."""
    while (message := await client.receive_output(5))["type"] != "websocket.close":
        pass
    return int(message["code"])


class Door:
    """The namespace `/door`, which lets a client in when it is told to, and hears who is in."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.told: list[str] = []

    async def let_in(self, client: Client, auth: dict[str, Any]) -> None:
        self.asked.set()
        await self.may_answer.wait()

    async def is_in(self, client: Client, auth: dict[str, Any]) -> None:
        self.told.append(client.id)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    door = Door()
    monkeypatch.setitem(registry.namespaces, "/door", Namespace(connecting=[door.let_in], connect=[door.is_in]))
    return door


@pytest.fixture
async def sid() -> AsyncIterator[str]:
    """A session over HTTP."""
    async with RealtimeNode():
        yield await open_polling()


async def test_a_client_connects_to_a_namespace_once() -> None:
    """A second time is no part of the protocol: the project would hear of two clients, and of one end."""
    async with RealtimeNode():
        client = await open_websocket()
        await client.send_to(text_data="40")
        await client.send_to(text_data="40")
        assert await close_code(client) == 1008


async def test_pongs_that_nobody_asked_for_count_as_messages() -> None:
    """Whoever goes on sending them is closed, as for any messages over a rate, in one body as well."""
    async with RealtimeNode(TIGHT):
        client = await open_websocket()
        for _ in range(20):
            await client.send_to(text_data="3")
        assert await close_code(client) == 1008
        sid = await open_polling()
        assert (await request("POST", sid, b"\x1e".join([b"3"] * 20)).get_response())["status"] == 400


async def test_a_client_that_goes_while_it_is_let_in_is_not_in(door: Door, sid: str) -> None:
    """The project is not told of it: it would never hear of its end."""
    post = asyncio.create_task(request("POST", sid, b"40/door,").get_response())
    await door.asked.wait()
    poll = request("GET", sid)
    await poll.send_input({"type": "http.request", "body": b""})
    await poll.send_input({"type": "http.disconnect"})
    await poll.wait()
    door.may_answer.set()
    await post
    assert door.told == []
    assert (await request("GET", sid).get_response())["status"] == 400


async def test_an_upgrade_waits_for_what_was_posted(door: Door, sid: str) -> None:
    """A client that does not wait is closed: the events of one client are handled one after the other."""
    post = asyncio.create_task(request("POST", sid, b"40/door,").get_response())
    await door.asked.wait()
    client = await open_websocket(sid)
    await client.send_to(text_data="2probe")
    assert await client.receive_from() == "3probe"
    await client.send_to(text_data="5")
    assert await close_code(client) == 1008
    door.may_answer.set()
    assert (await post)["status"] == 400


class Silent(Listener):
    """Takes what comes, and answers nothing."""

    async def deliver(self, batch: list[bytes]) -> None: ...

    def dropped(self, count: int) -> None: ...

    def interrupted(self) -> None: ...

    def resumed(self, groups: frozenset[str] | None) -> None: ...


async def test_a_young_node_gives_up_a_session_of_nobody() -> None:
    """It cannot know yet who is alive, and asks the node that the session's id names; it does not wait for ever where
    the backplane takes the question and nobody answers."""
    async with RealtimeNode({"HEARTBEAT_SECONDS": 0.5}) as young:
        node = runtime().node
        assert node is not None
        gone = young.layer.backplane()
        await gone.open(node_channel("n9-abcdef"), Silent())
        sid = session_id("n9-abcdef", "127.0.0.1:1", "A" * 22)
        asking = asyncio.create_task(request("GET", sid).get_response(timeout=10))
        while not len(node.streams):
            assert not asking.done()
            await asyncio.sleep(0)
        response = await asking
        assert (response["status"], response["body"]) == (400, b'{"code":1,"message":"Session ID unknown"}')
        await gone.close()
