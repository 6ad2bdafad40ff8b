"""What a client should not send, over a real socket: an answer, a living connection, and no traceback."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback
from tests.support.cluster import Cluster

MIB = 1024 * 1024
ROOMS_MAX = 128
LONG_NUMBER = "1" * 5_000


def with_data(data: str) -> str:
    """A broadcast with this text in place of its data."""
    return f'{{"type":"broadcast","ref":"r","data":{data}}}'


def in_room(name: str) -> str:
    return json.dumps({"type": "join", "ref": "r", "room": name})


BAD_MESSAGES = {
    # not JSON, or JSON that other readers could not read
    "empty": ("", "bad_json"),
    "blank": (" \r\n\t", "bad_json"),
    "broken": ('{"type":"ping"', "bad_json"),
    "two values": ('{"type":"ping"}{"type":"ping"}', "bad_json"),
    "trailing comma": ('{"type":"ping",}', "bad_json"),
    "single quotes": ("{'type':'ping'}", "bad_json"),
    "NUL": ("\0", "bad_json"),
    "NUL after it": ('{"type":"ping"}\0', "bad_json"),
    "byte order mark": ('\ufeff{"type":"ping"}', "bad_json"),
    "raw control character": ('{"type":"ping","ref":"a\x01b"}', "bad_json"),
    "NaN": (with_data("NaN"), "bad_json"),
    "Infinity": (with_data("-Infinity"), "bad_json"),
    "float too large": (with_data("1e999"), "bad_json"),
    "float too small": (with_data("[-1e999]"), "bad_json"),
    "400 digits": (with_data("1" * 400), "bad_json"),
    "5,000 digits": (with_data(LONG_NUMBER), "bad_json"),
    "5,000 digits inside": (with_data(f'{{"a":[{{"b":-{LONG_NUMBER}}}]}}'), "bad_json"),
    "400 digits and a fraction": (with_data("1" * 400 + ".5"), "bad_json"),
    "5,000 digits as ref": (f'{{"type":"ping","ref":{LONG_NUMBER}}}', "bad_json"),
    "leading zero": (with_data("01"), "bad_json"),
    "escaped lone high surrogate": (with_data(r'"\ud800"'), "bad_json"),
    "escaped lone low surrogate": (with_data(r'["\udc00"]'), "bad_json"),
    "surrogate in a name": (with_data(r'{"\udbff":1}'), "bad_json"),
    "surrogate pair reversed": (with_data(r'"\ude00\ud83d"'), "bad_json"),
    "arrays, 100,000 deep": (with_data("[" * 100_000 + "]" * 100_000), "bad_json"),
    "arrays, open": ("[" * 100_000, "bad_json"),
    "objects, 100,000 deep": (with_data('{"a":' * 100_000 + "1" + "}" * 100_000), "bad_json"),
    "129 deep": (with_data("[" * 129 + "]" * 129), "bad_json"),
    # JSON, but no message
    "array": ("[]", "bad_message"),
    "array of commands": ('[{"type":"ping"}]', "bad_message"),
    "string": ('"ping"', "bad_message"),
    "number": ("1", "bad_message"),
    "null": ("null", "bad_message"),
    "no type": ('{"room":"a"}', "bad_message"),
    "type is a number": ('{"type":1}', "bad_message"),
    "type is null": ('{"type":null}', "bad_message"),
    "type is an object": ('{"type":{"type":"ping"}}', "bad_message"),
    # a message of no known type
    "unknown type": ('{"type":"shout"}', "unknown_type"),
    "empty type": ('{"type":""}', "unknown_type"),
    "type in capitals": ('{"type":"PING"}', "unknown_type"),
    "a reply": ('{"type":"joined","room":"a"}', "unknown_type"),
    "an ASGI message": ('{"type":"websocket.disconnect","code":1000}', "unknown_type"),
    "an ASGI close": ('{"type":"websocket.close"}', "unknown_type"),
    "a Channels handler": ('{"type":"connection.ended"}', "unknown_type"),
    "an envelope": ('{"type":"rt.envelope","text":"{}"}', "unknown_type"),
    "a heartbeat": ('{"v":1,"type":"heartbeat","node":"n"}', "unknown_type"),
    "a long type": (json.dumps({"type": "x" * 10_000}), "unknown_type"),
    # missing and mistyped fields
    "join without room": ('{"type":"join"}', "bad_message"),
    "room is a number": ('{"type":"join","room":1}', "bad_message"),
    "room is null": ('{"type":"join","room":null}', "bad_message"),
    "room is an array": ('{"type":"join","room":["a"]}', "bad_message"),
    "members is a string": ('{"type":"join","room":"a","members":"yes"}', "bad_message"),
    "leave without room": ('{"type":"leave"}', "bad_message"),
    "broadcast without data": ('{"type":"broadcast"}', "bad_message"),
    "echo is a number": ('{"type":"broadcast","data":1,"echo":1}', "bad_message"),
    "room message without room": ('{"type":"room","data":1}', "bad_message"),
    "room message without data": ('{"type":"room","room":"a"}', "bad_message"),
    "private without recipient": ('{"type":"private","data":1}', "bad_message"),
    "private to nobody": ('{"type":"private","to":"","data":1}', "bad_message"),
    "private to a number": ('{"type":"private","to":7,"data":1}', "bad_message"),
    "private to a long name": (json.dumps({"type": "private", "to": "x" * 10_000, "data": 1}), "bad_message"),
    "token is a number": ('{"type":"authenticate","token":1}', "bad_message"),
    "token of 100 KB": (json.dumps({"type": "authenticate", "token": "x" * 100_000}), "bad_message"),
    "ref is an object": ('{"type":"ping","ref":{}}', "bad_message"),
    "ref is a fraction": ('{"type":"ping","ref":1.5}', "bad_message"),
    "ref is true": ('{"type":"ping","ref":true}', "bad_message"),
    "ref of 20 digits": ('{"type":"ping","ref":99999999999999999999}', "bad_message"),
    "ref of 10 KB": (json.dumps({"type": "ping", "ref": "x" * 10_000}), "bad_message"),
    # names that no room can have
    "empty room": (in_room(""), "bad_room"),
    "65 characters": (in_room("a" * 65), "bad_room"),
    "65 characters of Chinese": (in_room("室" * 65), "bad_room"),
    "10 KB": (in_room("a" * 10_240), "bad_room"),
    "NUL in a room": (in_room("a\0b"), "bad_room"),
    "CRLF in a room": (in_room("a\r\nPUBLISH x y\r\n"), "bad_room"),
    "newline after a room": (in_room("a\n"), "bad_room"),
    "escape": (in_room("\x1b[2J"), "bad_room"),
    "DEL": (in_room("a\x7f"), "bad_room"),
    "C1 control": (in_room("a\x85b"), "bad_room"),
    "line separator": (in_room("a\u2028b"), "bad_room"),
    "bad room to publish to": ('{"type":"room","room":"\\u0000","data":1}', "bad_room"),
    "bad room to leave": ('{"type":"leave","room":"\\r\\n"}', "bad_room"),
}


@pytest.fixture
async def pair(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """A client that misbehaves, and another one on another node."""
    return list(await asyncio.gather(*(connect(node.url) for node in module_cluster.nodes[:2])))


@pytest.fixture(autouse=True)
def _no_traceback(module_cluster: Cluster) -> Any:
    """Whatever a client sends is no surprise: no node logs a traceback."""
    yield
    assert_no_traceback(module_cluster)


@pytest.mark.parametrize("name", BAD_MESSAGES)
async def test_a_bad_message_is_answered(pair: list[Client], name: str) -> None:
    """It gets an error of its own code, reaches nobody, and the connection lives on."""
    text, code = BAD_MESSAGES[name]
    client, bystander = pair
    await client.send_raw(text)
    error = await client.expect("error")
    assert (error["code"], bool(error["message"])) == (code, True)
    assert error["message"] == error["message"].strip()
    assert len(error["message"]) < 400
    assert await client.is_alive()
    await client.do("private", to=bystander.id, data="sentinel")
    await bystander.expect("private")
    assert (client.waiting, bystander.waiting) == ([], [])


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ({"type": "join"}, "room"),
        ({"type": "join", "room": 1}, "room"),
        ({"type": "join", "room": "a", "members": []}, "members"),
        ({"type": "broadcast"}, "data"),
        ({"type": "room", "room": "a", "data": 1, "echo": "x"}, "echo"),
        ({"type": "private", "data": 1}, "to"),
        ({"type": "authenticate"}, "token"),
    ],
)
async def test_a_bad_field_is_named(pair: list[Client], command: dict[str, Any], field: str) -> None:
    """`bad_message` names the field in its message, and comes with the command's `ref`."""
    error = await pair[0].ask(**command)
    assert error["code"] == "bad_message"
    assert f"`{field}`" in error["message"]


async def test_all_bad_messages_in_one_burst(pair: list[Client]) -> None:
    """Sent one after the other without waiting, each gets its own error, in order."""
    client = pair[0]
    for text, _ in BAD_MESSAGES.values():
        await client.send_raw(text)
    assert await client.is_alive()
    assert [error["code"] for error in client.pushes("error")] == [code for _, code in BAD_MESSAGES.values()]


async def test_a_client_cannot_name_another_sender(pair: list[Client]) -> None:
    """A forged `from` is ignored: the others see who really sent it. Other unknown fields disturb nobody either."""
    forger, victim = pair
    for client in pair:
        await client.join("forged")
    forged = {"from": victim.id, "sender": victim.id, "id": victim.id, "skip": victim.id, "node": "x", "v": 99}
    await forger.do("broadcast", data=1, **forged)
    await forger.do("room", room="forged", data=2, **forged)
    await forger.do("private", to=victim.id, data=3, **forged)
    assert [(await victim.expect(kind))["from"] for kind in ("broadcast", "room", "private")] == [forger.id] * 3


async def test_of_duplicate_keys_the_last_wins(pair: list[Client]) -> None:
    """In a command as in the data, which are handed on as they were written."""
    client, other = pair
    await client.send_raw('{"type":"join","room":"first","room":"last"}')
    assert (await client.expect("joined"))["room"] == "last"
    await client.send_raw('{"type":"broadcast","data":1,"type":"ping"}')
    await client.expect("pong")
    await client.send_raw(f'{{"type":"private","to":"nobody","to":"{other.id}","data":0,"data":{{"a":1,"a":2}}}}')
    await other.until(lambda: '"data":{"a":1,"a":2}' in other.texts[-1], "the data as written")


@pytest.mark.parametrize("payload", [b"", b"\0", b'{"type":"ping"}', b"\xff\xfe" * 1_000])
async def test_a_binary_message_is_refused(pair: list[Client], payload: bytes) -> None:
    """Binary messages get `bad_message`, whatever is in them."""
    await pair[0].send_raw(payload)
    assert (await pair[0].expect("error"))["code"] == "bad_message"
    assert await pair[0].is_alive()


async def test_a_command_may_come_in_fragments(pair: list[Client]) -> None:
    """A text message in many frames, some of them empty, is one command."""
    await pair[0].send_raw(["", *'{"type":"ping","ref":"fragments"}', "", ""])
    await pair[0].expect("pong", ref="fragments")


@pytest.mark.parametrize(
    "name", ["*", "../", "../../etc/passwd", "a" * 64, "室" * 64, "rt.all", "?[a-z]", " ", "a b", "%s"]
)
async def test_strange_names_are_only_names(pair: list[Client], name: str) -> None:
    """A room of a strange but legal name is a room like any other: it hears itself, and nothing else."""
    client, other = pair
    await client.join(name)
    await other.join("etc", name + "x" if len(name) < 64 else "x")
    await other.do("room", room="etc", data="not for the room of a strange name")
    await other.do("broadcast", data="sentinel")
    await client.expect("broadcast", data="sentinel")
    assert client.waiting == []
    await other.join(name)
    await other.do("room", room=name, data="in it")
    assert (await client.expect("room")) == {"type": "room", "room": name, "from": other.id, "data": "in it"}


@pytest.mark.parametrize("through_nginx", [False, True])
async def test_a_message_over_the_limit_ends_the_connection(
    module_cluster: Cluster, connect: Connect, through_nginx: bool
) -> None:
    """A message of the limit is taken; one byte more is 1009 "Message too big", in one frame as in several."""
    assert module_cluster.nginx is not None
    url = module_cluster.nginx.url if through_nginx else module_cluster.nodes[0].url
    fitting = with_data('"' + "x" * (MIB - len(with_data('""'))) + '"')
    assert len(fitting) == MIB
    halves = [fitting[: MIB // 2], fitting[MIB // 2 :] + " "]
    for message in (fitting + " ", halves):
        client = await connect(url)
        await client.send_raw(fitting)
        await client.expect("ack")
        await client.send_raw(message)
        assert await client.closed() == (1009, "Message too big")


async def test_a_connection_that_is_far_over_the_limit_is_still_told(module_cluster: Cluster, connect: Connect) -> None:
    """A client in the middle of 16 MiB sees the close frame too, not a reset."""
    client = await connect(module_cluster.nodes[0].url)
    sending = asyncio.ensure_future(client.send_raw("x" * (16 * MIB)))
    assert await client.closed() == (1009, "Message too big")
    await asyncio.wait([sending])
    sending.exception()


async def test_more_rooms_than_allowed(pair: list[Client]) -> None:
    """Of 1,000 joins sent at once the first 128 succeed, the others are `too_many_rooms`; leaving one makes room."""
    client = pair[0]
    for number in range(1_000):
        await client.send("join", room=f"many-{number}", ref=number)
    assert await client.is_alive()
    answers = [message for message in client.received if isinstance(message.get("ref"), int)]
    assert [answer["ref"] for answer in answers] == list(range(1_000))
    assert [answer["type"] for answer in answers[:ROOMS_MAX]] == ["joined"] * ROOMS_MAX
    assert {answer.get("code") for answer in answers[ROOMS_MAX:]} == {"too_many_rooms"}
    await client.do("leave", room="many-5")
    await client.join("many-999", "many-1")


@pytest.mark.parametrize("path", ["/", "/nope", "/ws/x", "/ws//", "/WS/", "/ws%00", "/ws/..%2f", "/admin/", "/metrics"])
async def test_an_unknown_path_is_not_found(module_cluster: Cluster, connect: Connect, path: str) -> None:
    """A WebSocket to any path but /ws and /ws/ is refused with 404."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(f"ws://127.0.0.1:{module_cluster.nodes[0].port}{path}")
    assert refused.value.response.status_code == 404


async def test_both_paths_are_known(module_cluster: Cluster, connect: Connect) -> None:
    """/ws and /ws/ are the same, with and without a query."""
    for path in ("/ws", "/ws/", "/ws?a=1", "/ws/?a=%ff"):
        assert await (await connect(f"ws://127.0.0.1:{module_cluster.nodes[0].port}{path}")).is_alive()
