"""A project's own events."""

from __future__ import annotations

import uuid

import pytest

from realtime.auth import issue_token
from tests.acceptance.conftest import Connect
from tests.acceptance.socketio.conftest import SECRET_KEY, NewTalker
from tests.acceptance.socketio.peer import Refused
from tests.support.cluster import Cluster, DaphneNode

MAKE_USER = "from django.contrib.auth.models import User; print(User.objects.create_user('{name}').pk)"


async def test_a_plain_function_has_the_user_of_the_database(
    echo_cluster: Cluster, patient: DaphneNode, talker: NewTalker
) -> None:
    """It runs in a thread; it may emit, and what it returns is the acknowledgement."""
    name = uuid.uuid4().hex[:12]
    key = echo_cluster.manage("shell", "-v0", "-c", MAKE_USER.format(name=name)).split()[-1]
    ann = await talker(patient, namespace="/staff", auth={"token": issue_token(key, keys=[SECRET_KEY])})
    assert await ann.ask("whoami") == {"name": name, "id": key}
    assert await ann.expect("asked") == [name]


async def test_a_refusal_is_a_connect_error_with_its_message(patient: DaphneNode, talker: NewTalker) -> None:
    """And the project's own data."""
    with pytest.raises(Refused) as refused:
        await talker(patient, namespace="/staff")
    assert str(refused.value) == '44/staff,{"message":"Log in first","data":{"code":"unauthorized"}}'


async def test_an_event_for_a_room_reaches_every_member(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """Under its own name with Socket.IO, bytes included; plain members get its data."""
    room = uuid.uuid4().hex[:12]
    ann, ben, plain = await talker(patient), await talker(other), await connect(other.url)
    await plain.join(room)
    for each in (ann, ben):
        await each.do("join", room)
    assert await ann.ask("price", room, b"\x07") == {"ok": True}
    for each in (ann, ben):
        assert await each.expect("price") == [{"amount": b"\x07"}]
    expected = {"type": "room", "room": room, "from": ann.id, "data": {"amount": {"$base64": "Bw=="}}}
    assert await plain.expect("room", data=expected["data"]) == expected


async def test_a_project_disconnects_a_client_and_hears_of_it(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker
) -> None:
    """Of a client that it disconnected, and of one that broke off."""
    watcher = await talker(other, namespace="/custom")
    await watcher.do("join", "watchers")
    ann, ben = await talker(patient, namespace="/custom"), await talker(patient, namespace="/custom")
    assert await ann.ask("leave us") == {"ok": True}
    await ann.expect_disconnect()
    assert await watcher.expect("gone") == [ann.id]
    ben.socket.websocket.transport.abort()
    assert await watcher.expect("gone") == [ben.id]


async def test_a_handler_that_fails_is_answered(patient: DaphneNode, talker: NewTalker) -> None:
    """With an error, and the client lives on."""
    ann = await talker(patient)
    assert (await ann.ask("fail"))["code"] == "internal_error"
    assert (await ann.ask("price", "room", 1, 2, 3))["code"] == "internal_error"
    assert await ann.ask("ping") == {"ok": True}
