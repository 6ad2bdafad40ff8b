"""A client whose requests land on different nodes: no stickiness is needed."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.acceptance.nodes import eventually, metric
from tests.acceptance.socketio.conftest import NewPolling, NewSocket, NewTalker
from tests.support.cluster import DaphneNode

PATH = "/socket.io/"


def url(node: DaphneNode) -> str:
    return node.http_url + PATH


async def test_polls_and_posts_are_carried(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling, talker: NewTalker
) -> None:
    """A session of one node, all of whose other requests reach another one, gets everything in order."""
    room = uuid.uuid4().hex[:12]
    session = await polling(url(patient))
    session.url = url(other)
    await session.join_namespace('{"silent":1}')
    await session.say(f'420["join","{room}"]')
    ann = await talker(other)
    await ann.do("join", room)
    for number in range(20):
        await ann.do("chat", room, number)
    said: list[str] = []
    while not said or '"message":19}' not in said[-1]:
        for packet in (await session.said()).split("\x1e"):
            if packet == "2":
                await session.say("3")
            else:
                said.append(packet)
    numbers = [packet.rpartition(":")[2].rstrip("}]") for packet in said if '"message":' in packet]
    assert numbers == [str(number) for number in range(20)]
    assert metric(other, "realtime_socketio_carried_total") > 0


async def test_a_large_body_is_carried(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling, talker: NewTalker
) -> None:
    """In pieces, up to maxPayload; beyond that it is refused, with the session alive."""
    session = await polling(url(patient))
    session.url = url(other)
    await session.join_namespace('{"silent":1}')
    ann = await talker(patient)
    text = 'é"' * 200_000
    await session.say(f'42["private","{ann.id}","{text.replace(chr(34), chr(92) + chr(34))}"]')
    assert (await ann.expect("private"))[0]["message"] == text
    await session.quiet()
    poll = asyncio.create_task(session.said())
    text = text[:100_000]
    await ann.do("private", session.connected["sid"], text)
    assert json.loads((await poll)[2:]) == ["private", {"user": ann.id, "message": text}]
    assert (await session.post("4" + "x" * 1_000_000)).status_code == 413
    await session.say(f'42["private","{ann.id}","still here"]')
    assert (await ann.expect("private"))[0]["message"] == "still here"


async def test_an_upgrade_is_carried(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling, socket: NewSocket, talker: NewTalker
) -> None:
    """Text and bytes both ways, to the end; the session's node sees the end."""
    session = await (await polling(url(patient))).join_namespace('{"silent":1}')
    client = await socket(url(other), session.sid)
    await client.send("2probe")
    assert await client.packet() == "3probe"
    await client.send("5")
    await client.send('452-["message",{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]')
    await client.send(b"\x00\xff")
    await client.send(b"")
    back = [await client.next() for _ in range(3)]
    head = '452-["message-back",{"_placeholder":true,"num":0},"x",{"_placeholder":true,"num":1}]'
    assert back == [head, b"\x00\xff", b""]
    assert (await session.poll(url(other))).status_code == 400
    with pytest.raises(InvalidStatus):
        await socket(url(patient), session.sid)
    before = metric(patient, "websocket_connected_clients")
    await client.close()
    await eventually(lambda: metric(patient, "websocket_connected_clients") == before - 1, "the session has ended")


async def test_events_sent_with_the_upgrade_are_not_lost(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling, socket: NewSocket
) -> None:
    """All at once: the carrier is there before the first of them."""
    session = await (await polling(url(patient))).join_namespace('{"silent":1}')
    client = await socket(url(other), session.sid)
    for packet in ("2probe", "5", *(f'42["message",{number}]' for number in range(50))):
        await client.send(packet)
    assert await client.next() == "3probe"
    assert [await client.next() for _ in range(50)] == [f'42["message-back",{number}]' for number in range(50)]


@pytest.mark.parametrize("sid", ["nonsense", "n9-abcdef.0123456789.AAAAAAAAAAAAAAAAAAAAAA"])
async def test_a_session_of_no_living_node_is_unknown(patient: DaphneNode, sid: str) -> None:
    """Over HTTP and WebSocket."""
    async with httpx.AsyncClient() as http:
        query = {"EIO": "4", "transport": "polling", "sid": sid}
        answer = await http.get(url(patient), params=query)
    assert (answer.status_code, answer.json()["message"]) == (400, "Session ID unknown")


async def test_a_session_that_has_ended_is_unknown_to_others(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling
) -> None:
    """Its node says so."""
    session = await polling(url(patient))
    assert (await session.post("1", url(other))).status_code == 200
    answer = await session.poll(url(other))
    assert (answer.status_code, answer.json()["message"]) == (400, "Session ID unknown")


async def test_a_client_that_goes_ends_its_session(patient: DaphneNode, other: DaphneNode, polling: NewPolling) -> None:
    """When its poll breaks off, on whichever node."""
    for node in (patient, other):
        session = await (await polling(url(patient))).quiet()
        session.url = url(node)
        poll = await session.begin_poll()
        poll.cancel()
        before = metric(patient, "realtime_connections_closed_total")
        session.connection.close()
        await eventually(
            lambda before=before: metric(patient, "realtime_connections_closed_total") > before,  # type: ignore[misc]
            "the session has ended",
        )


@pytest.mark.parametrize("is_carried", [False, True], ids=["same node", "other node"])
async def test_what_waits_for_a_poll_goes_first_over_the_websocket(
    patient: DaphneNode, other: DaphneNode, polling: NewPolling, socket: NewSocket, talker: NewTalker, is_carried: bool
) -> None:
    """Nothing is lost or overtaken by the change of transports."""
    ann = await talker(other)
    session = await (await polling(url(patient))).join_namespace('{"silent":1}')
    client = await socket(url(other if is_carried else patient), session.sid)
    await client.send("2probe")
    assert await client.packet() == "3probe"
    for number in range(5):
        await ann.do("private", session.connected["sid"], number)
    await client.send("5")
    await client.send('42["message","now"]')
    wanted = [f'42["private",{{"user":"{ann.id}","message":{number}}}]' for number in range(5)]
    assert [await client.next() for _ in range(6)] == [*wanted, '42["message-back","now"]']
