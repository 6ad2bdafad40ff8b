"""What the Engine.IO project's own suite for version 4 asks of a server, case by case.

The suite of Socket.IO asks some of the same first, of its own path: the cases with a `path` are asked of both.
"""

from __future__ import annotations

import json

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.acceptance.socketio.conftest import NewPolling, NewSocket
from tests.acceptance.socketio.peer import DEADLINE_SECONDS, Polling, Socket
from tests.support.cluster import DaphneNode

ENGINE, SOCKET_IO = "/engine.io/", "/socket.io/"
HANDSHAKE = {"pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000}


@pytest.fixture(params=[ENGINE, SOCKET_IO])
def path(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def url(node: DaphneNode, path: str = ENGINE) -> str:
    return node.http_url + path


async def status(url: str, method: str, **query: str) -> int:
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as http:
        return (await http.request(method, url, params=query)).status_code


async def assert_over(session: Polling) -> None:
    assert (await session.poll()).status_code == 400


# -- handshake -------------------------------------------------------------------------------------------------------


async def test_polling_opens_a_session(strict: DaphneNode, path: str) -> None:
    """The answer is an open packet with an id, the times, the payload limit, and WebSocket as the upgrade."""
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS) as http:
        response = await http.get(url(strict, path), params={"EIO": "4", "transport": "polling"})
    assert response.status_code == 200
    assert response.text[0] == "0"
    handshake = json.loads(response.text[1:])
    assert isinstance(handshake.pop("sid"), str)
    assert handshake == {**HANDSHAKE, "upgrades": ["websocket"]}


@pytest.mark.parametrize("query", [{}, {"EIO": "abc"}])
async def test_polling_refuses_another_version(strict: DaphneNode, path: str, query: dict[str, str]) -> None:
    """Missing or not 4."""
    assert await status(url(strict, path), "GET", transport="polling", **query) == 400


@pytest.mark.parametrize("query", [{}, {"transport": "abc"}])
async def test_polling_refuses_an_unknown_transport(strict: DaphneNode, path: str, query: dict[str, str]) -> None:
    """Missing or of another name."""
    assert await status(url(strict, path), "GET", EIO="4", **query) == 400


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_polling_opens_with_get_only(strict: DaphneNode, path: str, method: str) -> None:
    """Other methods open nothing."""
    assert await status(url(strict, path), method, EIO="4", transport="polling") == 400


async def test_a_websocket_opens_a_session(strict: DaphneNode, path: str, socket: NewSocket) -> None:
    """The first message is the open packet, with nothing to upgrade to."""
    handshake = await (await socket(url(strict, path))).handshake()
    assert isinstance(handshake.pop("sid"), str)
    assert handshake == {**HANDSHAKE, "upgrades": []}


@pytest.mark.parametrize("query", ["transport=websocket", "EIO=abc&transport=websocket"])
async def test_a_websocket_of_another_version_is_refused(strict: DaphneNode, path: str, query: str) -> None:
    """Missing or not 4."""
    await assert_refused(url(strict, path), query)


@pytest.mark.parametrize("query", ["EIO=4", "EIO=4&transport=abc"])
async def test_a_websocket_of_an_unknown_transport_is_refused(strict: DaphneNode, path: str, query: str) -> None:
    """Missing or of another name."""
    await assert_refused(url(strict, path), query)


async def assert_refused(url: str, query: str) -> None:
    from websockets.asyncio.client import connect

    with pytest.raises(InvalidStatus):
        await connect(f"{url.replace('http', 'ws', 1)}?{query}", proxy=None)


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["4hello", "4test1\x1e4test2\x1e4test3", "4hello\x1ebAQIDBA=="])
async def test_polling_carries_texts_and_bytes(patient: DaphneNode, polling: NewPolling, payload: str) -> None:
    """One packet, several, and a binary one in base64, there and back."""
    session = await polling(url(patient))
    await session.say(payload)
    said = await session.said()
    assert [packet for packet in said.split("\x1e") if packet != "2"] == payload.split("\x1e")


async def test_polling_ends_with_a_body_that_is_no_packet(patient: DaphneNode, polling: NewPolling) -> None:
    """The post is refused, and the session is over."""
    session = await polling(url(patient))
    assert (await session.post("abc")).status_code == 400
    await assert_over(session)


async def test_polling_ends_with_a_second_poll_at_the_same_time(patient: DaphneNode, polling: NewPolling) -> None:
    """The first gets a close packet, the second an error, and the session is over."""
    session = await (await polling(url(patient))).quiet()
    first = await session.begin_poll()
    assert (await session.poll()).status_code == 400
    assert await first == (200, "1")
    await assert_over(session)


async def test_a_websocket_carries_text(patient: DaphneNode, socket: NewSocket) -> None:
    """There and back."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send("4hello")
    assert await client.next() == "4hello"


async def test_a_websocket_carries_bytes(patient: DaphneNode, socket: NewSocket) -> None:
    """As a binary message."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send(bytes([1, 2, 3, 4]))
    assert await client.next() == bytes([1, 2, 3, 4])


async def test_a_websocket_ends_with_a_message_that_is_no_packet(patient: DaphneNode, socket: NewSocket) -> None:
    """The server closes it."""
    client = await socket(url(patient))
    await client.handshake()
    await client.send("abc")
    assert await client.ended() == 1008


# -- heartbeat -------------------------------------------------------------------------------------------------------


async def test_polling_is_pinged(patient: DaphneNode, path: str, polling: NewPolling) -> None:
    """Again and again, each time after the answer."""
    session = await polling(url(patient, path))
    for _ in range(3):
        assert await session.said() == "2"
        await session.say("3")


async def test_polling_ends_without_a_pong(
    strict: DaphneNode, path: str, polling: NewPolling, socket: NewSocket
) -> None:
    """A session that began later and ended for the same reason proves that the time is over."""
    session = await polling(url(strict, path))
    later = await socket(url(strict, path))
    assert await later.ended() == 1001
    await assert_over(session)


async def test_a_websocket_is_pinged(patient: DaphneNode, path: str, socket: NewSocket) -> None:
    """Again and again, each time after the answer."""
    client = await socket(url(patient, path))
    await client.handshake()
    for _ in range(3):
        assert await client.packet() == "2"
        await client.send("3")


async def test_a_websocket_ends_without_a_pong(strict: DaphneNode, path: str, socket: NewSocket) -> None:
    """The server closes it."""
    assert await (await socket(url(strict, path))).ended() == 1001


# -- close -----------------------------------------------------------------------------------------------------------


async def test_a_close_packet_ends_polling(patient: DaphneNode, path: str, polling: NewPolling) -> None:
    """A poll that waits is answered with a noop packet, and the session is over."""
    session = await (await polling(url(patient, path))).quiet()
    poll = await session.begin_poll()
    assert (await session.post("1")).status_code == 200
    assert await poll == (200, "6")
    await assert_over(session)


async def test_a_close_packet_ends_a_websocket(patient: DaphneNode, path: str, socket: NewSocket) -> None:
    """The server closes it."""
    client = await socket(url(patient, path))
    await client.handshake()
    await client.send("1")
    assert await client.ended() == 1000


# -- upgrade ---------------------------------------------------------------------------------------------------------


async def upgraded(session: Polling, client: Socket) -> None:
    """Go through with an upgrade, and see it done."""
    await client.send("2probe")
    assert await client.packet() == "3probe"
    await client.send("5")
    await client.send("4hello")
    assert await client.next() == "4hello"


async def test_polling_is_upgraded_to_a_websocket(patient: DaphneNode, polling: NewPolling, socket: NewSocket) -> None:
    """Between the probe and the last step polls end at once, with a noop packet."""
    session = await polling(url(patient))
    client = await socket(url(patient), session.sid)
    await client.send("2probe")
    assert await client.packet() == "3probe"
    said = await session.said()
    assert (await session.said() if said == "2" else said) == "6"
    await client.send("5")
    await client.send("4hello")
    assert await client.next() == "4hello"


async def test_polls_after_an_upgrade_are_refused(patient: DaphneNode, polling: NewPolling, socket: NewSocket) -> None:
    """The WebSocket lives on."""
    session = await polling(url(patient))
    client = await socket(url(patient), session.sid)
    await upgraded(session, client)
    await assert_over(session)
    await client.send("4hello")
    assert await client.next() == "4hello"


async def test_another_websocket_after_an_upgrade_is_refused(
    patient: DaphneNode, polling: NewPolling, socket: NewSocket
) -> None:
    """The first one lives on."""
    session = await polling(url(patient))
    client = await socket(url(patient), session.sid)
    await upgraded(session, client)
    with pytest.raises(InvalidStatus):
        await socket(url(patient), session.sid)
    await client.send("4hello")
    assert await client.next() == "4hello"
