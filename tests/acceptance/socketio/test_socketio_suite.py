"""What the Socket.IO project's own suite for version 5 asks of a server, case by case.

Its first half asks the same of `/socket.io/` as that of Engine.IO does: what is alike is in `test_engineio_suite.py`.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.socketio.conftest import NewPolling, NewSocket
from tests.acceptance.socketio.peer import DEADLINE_SECONDS, Polling, Socket
from tests.support.cluster import DaphneNode

PATH = "/socket.io/"


def url(node: DaphneNode) -> str:
    return node.http_url + PATH


async def assert_over(session: Polling) -> None:
    assert (await session.poll()).status_code == 400


# -- what it asks of Engine.IO ---------------------------------------------------------------------------------------


async def test_polling_is_upgraded_to_a_websocket(patient: DaphneNode, polling: NewPolling, socket: NewSocket) -> None:
    """Asked, answered, and done: the namespace is reached over the WebSocket."""
    session = await polling(url(patient))
    client = await socket(url(patient), session.sid)
    await upgrade(client)
    assert await client.next() == '42["auth",{}]'


async def upgrade(client: Socket) -> None:
    await client.send("2probe")
    assert await client.packet() == "3probe"
    await client.send("5")
    await client.send("40")
    packet = await client.next()
    assert isinstance(packet, str)
    assert packet.startswith("40")


async def test_polls_after_an_upgrade_are_refused(patient: DaphneNode, polling: NewPolling, socket: NewSocket) -> None:
    """They are of no session any more."""
    session = await polling(url(patient))
    await upgrade(await socket(url(patient), session.sid))
    await assert_over(session)


async def test_another_websocket_after_an_upgrade_is_refused(
    patient: DaphneNode, polling: NewPolling, socket: NewSocket
) -> None:
    """The handshake fails."""
    session = await polling(url(patient))
    await upgrade(await socket(url(patient), session.sid))
    with pytest.raises(InvalidStatus):
        await socket(url(patient), session.sid)


# -- namespaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("connect", "head", "auth"),
    [
        ("40", "40", '42["auth",{}]'),
        ('40{"token":"123"}', "40", '42["auth",{"token":"123"}]'),
        ("40/custom,", "40/custom,", '42/custom,["auth",{}]'),
        ('40/custom,{"token":"abc"}', "40/custom,", '42/custom,["auth",{"token":"abc"}]'),
    ],
    ids=["main", "main with a payload", "custom", "custom with a payload"],
)
async def test_a_client_connects_to_a_namespace(
    patient: DaphneNode, socket: NewSocket, connect: str, head: str, auth: str
) -> None:
    """The answer has an id and nothing else; the application has the payload."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send(connect)
    answer = await client.next()
    assert isinstance(answer, str)
    assert answer.startswith(head)
    fields = json.loads(answer[len(head) :])
    assert isinstance(fields.pop("sid"), str)
    assert fields == {}
    assert await client.next() == auth


async def test_an_unknown_namespace_is_refused(patient: DaphneNode, socket: NewSocket) -> None:
    """With a connect error."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send("40/random")
    assert await client.next() == '44/random,{"message":"Invalid namespace"}'


async def test_a_client_that_begins_with_nonsense_is_closed(patient: DaphneNode, socket: NewSocket) -> None:
    """Before it is connected to any namespace."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send("4abc")
    assert await client.ended() == 1008


async def test_a_client_that_connects_to_nothing_is_closed(strict: DaphneNode, socket: NewSocket) -> None:
    """In time, though it answers pings."""
    client = await socket(url(strict))
    await client.handshake()
    with pytest.raises(ConnectionClosed, match="1001"):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await client.next()


async def connected(client: Socket) -> Socket:
    """Connected to `/`, the echo's first event taken."""
    await client.handshake()
    await client.send("40")
    await client.next()
    assert await client.next() == '42["auth",{}]'
    return client


async def test_a_client_leaves_the_main_namespace(patient: DaphneNode, socket: NewSocket) -> None:
    """The session lives on: it is pinged."""
    client = await connected(await socket(url(patient)))
    await client.send("41")
    assert await client.packet() == "2"


async def test_a_client_leaves_a_custom_namespace(patient: DaphneNode, socket: NewSocket) -> None:
    """It is still connected to the main one."""
    client = await connected(await socket(url(patient)))
    await client.send("40/custom")
    await client.next()
    assert await client.next() == '42/custom,["auth",{}]'
    await client.send("41/custom")
    await client.send('42["message","message to main namespace"]')
    assert await client.next() == '42["message-back","message to main namespace"]'


# -- messages --------------------------------------------------------------------------------------------------------

TWO = '{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}'


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ('42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'),
        ('42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'),
    ],
    ids=["event", "event with an acknowledgement"],
)
async def test_an_event_of_text(patient: DaphneNode, socket: NewSocket, said: str, answer: str) -> None:
    """Comes back as an event, or as its acknowledgement."""
    client = await connected(await socket(url(patient)))
    await client.send(said)
    assert await client.next() == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (f'452-["message",{TWO}]', f'452-["message-back",{TWO}]'),
        (f'452-789["message-with-ack",{TWO}]', f"462-789[{TWO}]"),
    ],
    ids=["event", "event with an acknowledgement"],
)
async def test_an_event_with_attachments(patient: DaphneNode, socket: NewSocket, said: str, answer: str) -> None:
    """They come back after it, in their order."""
    client = await connected(await socket(url(patient)))
    await client.send(said)
    await client.send(bytes([1, 2, 3]))
    await client.send(bytes([4, 5, 6]))
    came: list[Any] = [await client.next() for _ in range(3)]
    assert came == [answer, bytes([1, 2, 3]), bytes([4, 5, 6])]


@pytest.mark.parametrize(
    "said",
    ["4abc", "42{}", '42abc["message-with-ack",1,"2",{"3":[false]}]'],
    ids=["unknown packet type", "invalid payload", "invalid acknowledgement"],
)
async def test_a_client_that_sends_nonsense_is_closed(patient: DaphneNode, socket: NewSocket, said: str) -> None:
    """At once."""
    client = await connected(await socket(url(patient)))
    await client.send(said)
    assert await client.ended() == 1008
