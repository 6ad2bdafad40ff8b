"""Socket.IO clients and plain WebSocket clients in the same rooms, on two nodes."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from realtime.auth import issue_token
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually, metric
from tests.acceptance.socketio.conftest import SECRET_KEY, NewTalker
from tests.acceptance.socketio.peer import Refused
from tests.support.cluster import Cluster, DaphneNode


def new_room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


async def test_a_join_is_told_to_the_others(patient: DaphneNode, other: DaphneNode, talker: NewTalker) -> None:
    """On whichever node, as a message; whoever joins twice is announced once."""
    room = new_room()
    ann, ben = await talker(patient), await talker(other)
    assert await ann.ask("join", room) == {"ok": True, "room": room}
    await ben.do("join", room)
    assert await ann.expect("message") == [f"user {ben.id} joined"]
    await ben.do("join", room)
    await ben.do("chat", room, "sentinel")
    assert await ann.expect("message") == [{"room": room, "user": ben.id, "message": "sentinel"}]


async def test_chat_reaches_everyone_in_the_room(patient: DaphneNode, other: DaphneNode, talker: NewTalker) -> None:
    """The sender included, and nobody who has left."""
    room = new_room()
    ann, ben, cleo = await talker(patient), await talker(other), await talker(other)
    for each in (ann, ben, cleo):
        await each.do("join", room)
    assert await cleo.ask("leave", room) == {"ok": True, "room": room}
    assert await ann.ask("chat", room, {"text": "Hello", "n": [1, None]}) == {"ok": True}
    said = {"room": room, "user": ann.id, "message": {"text": "Hello", "n": [1, None]}}
    for each in (ann, ben):
        while (came := (await each.expect("message"))[0]) != said:
            assert "joined" in came
    await ann.do("private", cleo.id, "sentinel")
    assert await cleo.expect("private") == [{"user": ann.id, "message": "sentinel"}]
    assert all("Hello" not in str(arguments) for _, arguments in cleo.events)


async def test_plain_and_socketio_members_hear_each_other(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """Each in its own words: room, broadcast and private messages both ways."""
    room = new_room()
    plain, ann = await connect(patient.url), await talker(other)
    await plain.join(room)
    await ann.do("join", room)
    joined = {"type": "room", "room": room, "from": ann.id, "data": f"user {ann.id} joined"}
    assert await plain.expect("room") == joined

    await ann.do("room", room, {"n": 1})
    assert await plain.expect("room") == {"type": "room", "room": room, "from": ann.id, "data": {"n": 1}}
    await plain.do("room", room=room, data={"n": 2})
    assert await ann.expect("message") == [{"room": room, "user": plain.id, "message": {"n": 2}}]

    await ann.do("private", plain.id, "psst")
    assert await plain.expect("private") == {"type": "private", "from": ann.id, "data": "psst"}
    await plain.do("private", to=ann.id, data="psst back")
    assert await ann.expect("private") == [{"user": plain.id, "message": "psst back"}]

    word = uuid.uuid4().hex
    await ann.do("broadcast", word)
    assert await plain.expect("broadcast", data=word) == {"type": "broadcast", "from": ann.id, "data": word}
    await plain.do("broadcast", data=word[::-1])
    while (await ann.expect("broadcast"))[0] != {"user": plain.id, "message": word[::-1]}:
        pass  # of other tests


async def test_bytes_reach_plain_members_as_base64(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """And Socket.IO members as they were, on every node and at every depth."""
    room = new_room()
    plain, ann, ben = await connect(patient.url), await talker(patient), await talker(other)
    await plain.join(room)
    await ann.do("join", room)
    await ben.do("join", room)
    await ann.do("room", room, {"picture": b"\x00\x01\xff", "all": [b"", "text"]})
    came = await ben.expect("message")
    assert came == [{"room": room, "user": ann.id, "message": {"picture": b"\x00\x01\xff", "all": [b"", "text"]}}]
    base64 = {"picture": {"$base64": "AAH/"}, "all": [{"$base64": ""}, "text"]}
    await plain.take(lambda message: message.get("data") == base64, "the bytes in base64")


@pytest.mark.parametrize(
    ("event", "arguments", "code"),
    [
        ("chat", ["nowhere", 1], "not_joined"),
        ("leave", ["nowhere"], "not_joined"),
        ("join", [""], "bad_room"),
        ("join", [7], "bad_message"),
        ("join", [], "bad_message"),
        ("chat", ["nowhere"], "bad_message"),
        ("private", ["nobody", 1], "unknown_recipient"),
        ("shout", [], "unknown_type"),
        ("authenticate", ["x.y.z"], "unauthorized"),
        ("fail", [], "internal_error"),
    ],
)
async def test_a_refused_event_says_why(
    patient: DaphneNode, talker: NewTalker, event: str, arguments: list[object], code: str
) -> None:
    """In its acknowledgement; without one, in an event `error`. The connection lives on."""
    ann = await talker(patient)
    answer = await ann.ask(event, *arguments)
    assert (answer["ok"], answer["code"], bool(answer["message"])) == (False, code, True)
    await ann.emit(event, *arguments)
    (error,) = await ann.expect("error")
    assert error == {"code": code, "message": answer["message"]}
    assert await ann.ask("ping") == {"ok": True}


async def test_data_that_not_everybody_can_read_is_refused(patient: DaphneNode, talker: NewTalker) -> None:
    """As in the plain protocol."""
    room = new_room()
    ann = await talker(patient)
    await ann.do("join", room)
    await ann.socket.send(f'42["chat","{room}",1e999]')
    assert (await ann.expect("error"))[0]["code"] == "bad_json"


async def test_a_token_makes_a_user(patient: DaphneNode, other: DaphneNode, talker: NewTalker) -> None:
    """At the connection or later; a token of nobody is a connect error with a message."""
    user = uuid.uuid4().hex
    token = issue_token(user, keys=[SECRET_KEY])
    ann, ben = await talker(patient, auth={"token": token, "silent": True}), await talker(other)
    answer = await ben.do("authenticate", token)
    assert answer["user"] == user
    cleo = await talker(patient)
    await cleo.do("private", f"user:{user}", "for both")
    for each in (ann, ben):
        assert await each.expect("private") == [{"user": cleo.id, "message": "for both"}]
    assert (await ann.ask("authenticate", issue_token("x", keys=[SECRET_KEY])))["code"] == "unauthorized"
    with pytest.raises(Refused, match=r'^44\{"message":"The token is not valid.*"code":"unauthorized"'):
        await talker(patient, auth={"token": "a.b.c"})


async def test_a_socketio_client_is_counted_and_listed(
    echo_cluster: Cluster, patient: DaphneNode, talker: NewTalker
) -> None:
    """As a connection of its node, with its transport."""
    before = metric(patient, "websocket_connected_clients")
    ann = await talker(patient)
    assert metric(patient, "websocket_connected_clients") == before + 1

    def row() -> str:
        return echo_cluster.manage(
            "shell",
            "-v0",
            "-c",
            f"from realtime.models import Connection; c = Connection.objects.filter(id='{ann.id}').first();"
            "print(c and (c.transport, c.disconnected is None))",
        )

    await eventually(lambda: "('socketio', True)" in row(), "the row is there", 20)
    await ann.close()
    await eventually(lambda: "('socketio', False)" in row(), "the row is closed", 20)


async def test_members_are_listed_with_their_changes(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """Plain and Socket.IO members in one list, for whoever asks."""
    room = new_room()
    plain, ann = await connect(other.url), await talker(patient)
    await plain.join(room)
    answer = await ann.do("join", room, {"members": True})
    members = sorted(answer["members"], key=lambda member: str(member["id"]))
    assert members == sorted(
        [{"id": ann.id, "user": None}, {"id": plain.id, "user": None}], key=lambda member: str(member["id"])
    )
    await plain.do("leave", room=room)
    assert await ann.expect("members") == [{"room": room, "joined": [], "left": [{"id": plain.id, "user": None}]}]


async def test_rooms_of_another_namespace_are_apart(
    patient: DaphneNode, other: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """The same name, other members; a broadcast stays in its namespace."""
    room = new_room()
    plain = await connect(patient.url)
    main = await talker(patient)
    ann, ben = await talker(patient, namespace="/custom"), await talker(other, namespace="/custom")
    await plain.join(room)
    await main.do("join", room)
    for each in (ann, ben):
        assert await each.ask("join", room) == {"ok": True, "room": room}
    await ann.do("chat", room, "in the other room")
    while (await ben.expect("message"))[0] != {"room": room, "user": ann.id, "message": "in the other room"}:
        pass
    await ann.do("broadcast", "to the namespace")
    assert await ben.expect("broadcast") == [{"user": ann.id, "message": "to the namespace"}]
    await main.do("chat", room, "sentinel")
    assert await main.expect("message") == [{"room": room, "user": main.id, "message": "sentinel"}]
    assert "other room" not in str(plain.received)
    assert "namespace" not in str([*main.events, plain.received])


async def test_who_is_not_in_the_main_namespace_hears_no_broadcast(
    patient: DaphneNode, talker: NewTalker, connect: Connect
) -> None:
    """Nor a private message: there is nobody to hear it."""
    ann, plain = await talker(patient, namespace="/custom"), await connect(patient.url)
    await plain.do("broadcast", data="for the main namespace")
    answer = await plain.ask("private", to=ann.id, data=1)
    assert answer["code"] == "unknown_recipient"
    assert await ann.ask("ping") == {"ok": True}
    assert ann.events == []


async def test_django_code_removes_and_disconnects_a_client(
    echo_cluster: Cluster, patient: DaphneNode, talker: NewTalker
) -> None:
    """From another process: out of a room, and then for good, which an official client takes for an answer."""
    room = new_room()
    ann, ben = await talker(patient), await talker(patient, namespace="/custom")
    await ann.do("join", room)

    def order(call: str) -> str:
        return echo_cluster.manage("shell", "-v0", "-c", f"from realtime import api; api.{call}")

    await asyncio.to_thread(order, f"remove_member(room={room!r}, connection={ann.id!r})")
    assert await ann.expect("left") == [{"room": room}]
    assert (await ann.ask("chat", room, 1))["code"] == "not_joined"
    for each in (ann, ben):
        await asyncio.to_thread(order, f"disconnect(connection={each.id!r}, code=4003, reason='Banned')")
        await each.expect_disconnect()
        assert await each.ended() == 4003
