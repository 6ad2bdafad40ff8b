"""Nodes on uvicorn, beside a node on daphne: the same application with the same promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidStatus, ProtocolError
from websockets.frames import Opcode

from realtime.protocol.closing import CLOSE_CODES
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.engine.peer import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, close, command, frame, text
from tests.acceptance.nodes import assert_no_traceback
from tests.acceptance.on_uvicorn.conftest import LOOPS, StartNode
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.tls import self_signed
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

MIB = 1024 * 1024
ENGINE = "tests.acceptance.engine.application:application"
GENEROUS = {"REALTIME_BACKLOG_MAX_BYTES": str(256 * MIB), "REALTIME_BACKLOG_HARD_MAX_BYTES": str(512 * MIB)}


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """One node on daphne and one on uvicorn with each kind of loop; slow readers are given all the time they need."""
    cluster = Cluster(redis_server.url, nodes=1, environment=GENEROUS)
    for loop in LOOPS:
        add_uvicorn(cluster, "--loop", loop, *UNCOMPRESSED)
    with cluster:
        yield cluster
        assert_no_traceback(cluster)


@pytest.fixture(params=LOOPS)
def node(request: pytest.FixtureRequest, module_cluster: Cluster) -> DaphneNode:
    """A node on uvicorn of the shared cluster, with each kind of loop."""
    return module_cluster.nodes[1 + LOOPS.index(request.param)]


async def got(client: Client, count: int) -> None:
    """Wait until the client has so many messages of its room."""
    await client.until(lambda: len(client.pushes("room")) == count, f"{count} messages")


# Rooms, order, and what is written by whom


async def test_a_room_over_daphne_and_uvicorn(module_cluster: Cluster, connect: Connect) -> None:
    """Members on every node see one sequence of all that is sent from every node; private messages find their way."""
    clients = [await (await connect(each.url)).join("mixed") for each in module_cluster.nodes]
    for sender in clients:
        for number in range(50):
            await sender.send("room", room="mixed", data=number, echo=True)
    for client in clients:
        await got(client, 150)
    sequences = [[(push["from"], push["data"]) for push in client.pushes("room")] for client in clients]
    assert sequences[0] == sequences[1] == sequences[2]
    for sender, recipient in zip(clients, clients[1:] + clients[:1], strict=True):
        await sender.do("private", to=recipient.id, data="for you")
        assert (await recipient.expect("private"))["from"] == sender.id


def test_a_peer_that_reads_in_bursts(module_cluster: Cluster, node: DaphneNode) -> None:
    """Behind a receive buffer of 4 KB the room's messages, replies and pongs arrive each in their order, whole, however
    much of it had to wait."""
    count, room = 6_000, f"bursts-{node.name}"
    payloads = [f"{number}:" + "x" * (number % 1_500) for number in range(count)]
    with Peer(node.port, receive_buffer=4096) as slow, Peer(module_cluster.nodes[0].port) as sender:
        slow.do("join", room=room)
        sender.do("join", room=room)
        asked = 0
        for start in range(0, count, 500):
            sender.send(*(command("room", room=room, data=data) for data in payloads[start : start + 500]))
            sender.do("ping")
            slow.send(command("ping", ref=asked), frame(PING, b"%d" % asked))
            asked += 1
        texts: list[bytes] = []
        pongs: list[int] = []
        refs: list[bytes] = []
        while len(texts) < count or len(pongs) < asked or len(refs) < asked:
            came = slow.frame()
            data = bytes(came.data)
            if came.opcode is Opcode.PONG:
                pongs.append(int(data))
            elif data.startswith(b'{"type":"room"'):
                texts.append(data)
            elif data.startswith(b'{"type":"pong"'):
                refs.append(data)
        begin = f'{{"type":"room","room":"{room}","from":"{sender.id}","data":"'
        assert texts == [f'{begin}{payload}"}}'.encode() for payload in payloads]
        assert pongs == list(range(asked))
        assert refs == [b'{"type":"pong","ref":%d}' % number for number in range(asked)]


def test_many_commands_in_pieces(node: DaphneNode) -> None:
    """Commands cut at every place, with fragments and pings among them, are answered once each, in order."""
    with Peer(node.port) as peer:
        stream = b"".join(
            command("ping", ref=number, pad="x" * size)
            + frame(TEXT, b'{"type":"ping",', fin=False)
            + frame(PING, b"inside")
            + frame(CONTINUATION, b'"ref":"f%d"}' % number)
            for number, size in enumerate([0, 1, 40, 60, 70, 125, 126, 300, 70_000])
        )
        for step in (1, 2, 3, 5, 7, 8, 13, 100_000):
            piece = stream[: 2_000 if step < 10 else None]
            for start in range(0, len(piece), step):
                peer.send(piece[start : start + step])
            if len(piece) < len(stream):
                peer.send(stream[len(piece) :])
            refs = [peer.until(lambda message: message["type"] == "pong")["ref"] for _ in range(18)]
            assert refs == [ref for number in range(9) for ref in (number, f"f{number}")]


def test_tls(start_node: StartNode, tmp_path: Path) -> None:
    """An endpoint with TLS serves the same way: replies, what others send, a slow reader, and the close."""
    pair = self_signed(tmp_path)
    node = start_node("--ssl-certfile", str(pair.certificate), "--ssl-keyfile", str(pair.key), *UNCOMPRESSED)
    with Peer(node.port, tls=pair.trusting()) as one, Peer(node.port, tls=pair.trusting()) as other:
        for peer in (one, other):
            peer.do("join", room="tls")
        for number in range(300):
            one.send(command("room", room="tls", data=f"{number}:" + "x" * 10_000))
        one.do("ping")
        for number in range(300):
            assert other.expect("room")["data"] == f"{number}:" + "x" * 10_000
        one.send(frame(TEXT, b"x" * (MIB + 1)))
        assert one.closed() == (1009, "Message too big")
        node.terminate()
        assert other.closed() == (1012, "Service restart")
        other.send(close())
        assert node.wait() == 0


def test_what_looks_like_a_frame(node: DaphneNode) -> None:
    """What comes in a read of its own is no command when it is the payload of another frame, or in the middle of a
    fragmented message."""
    with Peer(node.port) as peer, Peer(node.port) as clock:
        forged = command("ping", ref="forged")
        binary = frame(BINARY, forged, mask=bytes(4))
        for begun in (1, 2, 4, len(binary) - len(forged)):
            peer.send(binary[:begun])
            clock.do("ping")  # until then the first part has been read
            peer.send(binary[begun:])
            assert peer.expect("error")["code"] == "bad_message"
        peer.send(frame(TEXT, b"begun", fin=False), frame(PING))
        peer.payload(PONG)
        peer.send(forged)
        assert peer.closed()[0] == 1002


# Closing and refusing


@pytest.mark.parametrize("loop", LOOPS)
def test_close_codes_reach_the_client(start_node: StartNode, loop: str) -> None:
    """Each code of the table with its reason, after what was sent before; a reason that is too long is cut; a consumer
    that fails ends with 1011; a peer that violates the protocol is told which way."""
    node = start_node("--loop", loop, application=ENGINE)
    expected = [(each.code, each.reason, each.reason) for each in CLOSE_CODES]
    for code, reason, arrives in [*expected, (4000, "€" * 42, "€" * 41)]:
        with Peer(node.port, f"/close/?code={code}&reason={quote(reason)}") as peer:
            assert peer.send(text("now")).payload() == b"last words"
            assert peer.closed() == (code, arrives)
            assert peer.send(close()).rest() == []
    with Peer(node.port, "/close/?code=crash&reason=") as peer:
        assert peer.closed() == (1011, "Internal error")
    violations = {
        1002: frame(0x3, b"reserved"),
        1007: text(b"\xff\xfe"),
        1008: frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 1_100,
        1009: frame(TEXT, b"x" * (MIB + 1))[:20],
    }
    for code, violation in violations.items():
        with Peer(node.port) as peer:
            assert peer.send(command("ping", ref=1), violation).expect("pong", ref=1)
            assert peer.closed()[0] == code


def test_what_comes_before_and_after_a_violation(node: DaphneNode) -> None:
    """A command that was complete is carried out, also in one read with the violation; others go on."""
    with Peer(node.port) as breaks, Peer(node.port) as member:
        for peer in (breaks, member):
            peer.do("join", room="violation")
        breaks.send(
            frame(TEXT, b'{"type":"room","room":"violation",', fin=False)
            + frame(CONTINUATION, b'"data":"last words"}')
            + frame(0x3, b"reserved")
        )
        assert breaks.closed()[0] == 1002
        assert member.expect("room")["data"] == "last words"
        for number in range(10):
            member.send(command("room", room="violation", data=number, echo=True))
            assert member.expect("room")["data"] == number
        assert breaks.rest() == []


async def test_a_message_over_the_limit(node: DaphneNode, connect: Connect) -> None:
    """1 MiB is taken; one byte more ends with 1009 "Message too big", in one frame as in several."""
    head = '{"type":"ping","ref":"'
    fitting = head + "x" * 10 + '","pad":"' + "x" * (MIB - len(head) - 10 - 9 - 2) + '"}'
    assert len(fitting) == MIB
    client = await connect(node.url)
    await client.send_raw(fitting)
    await client.expect("pong")
    for message in (fitting + " ", [fitting[:500_000], fitting[500_000:] + " "]):
        client = await connect(node.url)
        await client.send_raw(message)
        assert await client.closed() == (1009, "Message too big")


def test_a_message_far_over_the_limit(node: DaphneNode) -> None:
    """Who sends 16 MiB without reading is not cut off while it does, and finds the close frame afterwards."""
    with Peer(node.port) as peer:
        peer.send(frame(TEXT, b"x" * (16 * MIB)))
        assert peer.closed() == (1009, "Message too big")
        assert peer.rest() == []


async def test_an_unknown_path_is_refused(node: DaphneNode) -> None:
    """404, and uvicorn has nothing to complain about."""
    with pytest.raises(InvalidStatus) as refused:
        await open_websocket(node.url + "nope", proxy=None)
    assert refused.value.response.status_code == 404
    assert "ERROR" not in node.log


# Readers and senders that are too slow


@pytest.mark.parametrize("loop", LOOPS)
def test_a_slow_consumer_is_closed(start_node: StartNode, loop: str) -> None:
    """A member that does not read is closed with 4008 while another one gets everything; one that never reads at all is
    gone soon after."""
    node = start_node("--loop", loop, *UNCOMPRESSED)
    with (
        Peer(node.port, receive_buffer=65_536) as late,
        Peer(node.port, receive_buffer=65_536) as mute,
        Peer(node.port) as quick,
        Peer(node.port) as sender,
    ):
        for peer in (late, mute, quick):
            peer.do("join", room="slow")
        sender.do("join", room="slow")
        for number in range(200):
            sender.send(command("room", room="slow", data=f"{number}:" + "x" * 64_000))
            assert quick.expect("room")["data"].startswith(f"{number}:")
        frames = late.rest()
        assert frames[-1].opcode is Opcode.CLOSE
        assert bytes(frames[-1].data) == b"\x0f\xa8Slow consumer"
        assert len(frames) < 200
        closed = [f"connection_closed id={peer.id} user=None code=4008" for peer in (late, mute)]
        node.wait_until(lambda: all(line in node.log for line in closed), "rid of both", 6)
        assert "ERROR" not in node.log


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_sends_too_fast_is_paused(start_node: StartNode, own_redis: RedisServer, loop: str) -> None:
    """While a command waits for the backplane the rest waits in the client's own buffers; then all is answered."""
    environment = {"REALTIME_PUBLISH_TIMEOUT_SECONDS": "30", "REALTIME_HEARTBEAT_SECONDS": "60"}
    node = start_node("--loop", loop, redis=own_redis, environment=environment)
    with Peer(node.port) as peer:
        own_redis.pause()
        peer.send(command("join", room="waits", ref="join"))
        peer.socket.settimeout(1)
        sent = 0
        rest = b""
        try:
            while True:
                rest = rest or command("ping", ref=sent, pad="x" * 10_000)
                rest = rest[peer.socket.send(rest) :]
                sent += not rest
        except TimeoutError:
            pass
        assert sent * 10_000 < 32 * MIB
        own_redis.resume()
        assert peer.until(lambda message: message.get("ref") == "join")["type"] == "joined"
        peer.send(rest, command("ping", ref="end"))
        expected = [*range(sent + bool(rest)), "end"]
        assert [peer.expect("pong")["ref"] for _ in expected] == expected


# Compression


async def test_compression(start_node: StartNode, connect: Connect) -> None:
    """Who negotiated it gets right messages, who did not as well, in one room; the log says at the start that it is on,
    and how to turn it off."""
    node = start_node()
    assert node.log.count("compression_is_on") == 1
    assert "--ws-per-message-deflate false" in node.log
    compressed = await connect(node.url, compression="deflate")
    plain = await connect(node.url)
    assert compressed.connection.protocol.extensions
    assert not plain.connection.protocol.extensions
    for client in (compressed, plain):
        await client.join("deflate")
    texts = [f"{number} " + "schön " * number for number in range(300)]
    for index, data in enumerate(texts):
        await (compressed, plain)[index % 2].send("room", room="deflate", data=data, echo=True)
    for client in (compressed, plain):
        await got(client, 300)
        assert sorted(push["data"] for push in client.pushes("room")) == sorted(texts)
    assert compressed.pushes("room") == plain.pushes("room")
    with pytest.raises(ProtocolError, match="reserved bits"):  # this peer knows no compression, though it asks for it
        await asyncio.to_thread(Peer, node.port, headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
    await compressed.send_raw("x" * (2 * MIB))
    assert await compressed.closed() == (1009, "Message too big")


async def test_without_compression_nobody_gets_it(node: DaphneNode, connect: Connect) -> None:
    """With `--ws-per-message-deflate false` nothing is negotiated, and nothing is said about it."""
    client = await connect(node.url, compression="deflate")
    assert not client.connection.protocol.extensions
    assert "compression_is_on" not in node.log


# A uvicorn that is not as expected


async def test_an_unknown_uvicorn_serves_by_plain_asgi(start_node: StartNode, connect: Connect) -> None:
    """One warning names what is missing; clients are served all the same, and closed when the node ends."""
    node = start_node(application="tests.acceptance.on_uvicorn.changed:application")
    assert node.log.count("uvicorn_unexpected") == 1
    assert "keepalive_timeout" in node.log
    one, other = await connect(node.url), await connect(node.url)
    for client in (one, other):
        await client.join("plain")
    await one.do("room", room="plain", data="works")
    assert (await other.expect("room"))["data"] == "works"
    await asyncio.to_thread(node.stop)
    assert (await one.closed())[0] == 1012


@pytest.mark.parametrize("implementation", ["websockets"])
async def test_another_websocket_implementation(start_node: StartNode, connect: Connect, implementation: str) -> None:
    """Chosen on the command line it is used, by plain ASGI; a warning says what it costs."""
    node = start_node("--ws", implementation)
    assert node.log.count("uvicorn_websockets_unknown") == 1
    client: Client = await connect(node.url)
    await client.do("ping")
    await client.join("plain")
    await asyncio.to_thread(node.stop)
    assert await client.closed() == (1012, "Service restart")
