"""What nobody thought of: messages that are nearly right, and bytes that are nothing at all. (Attack 12.)

The names of rooms and the JSON that somebody did think of are in `tests/acceptance/test_bad_input.py`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections import Counter
from dataclasses import replace

from tests.acceptance.abuse import sessions
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH
from tests.acceptance.abuse.mutations import COMMANDS, PACKETS, mutated
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import BINARY, TEXT, Ended, Peer, command, frame

MUTATIONS = 5_000  # in each of at least two rounds
PACKET_MUTATIONS = 1_000
BODIES = 60
RAW_CONNECTIONS = 60
AT_ONCE = 25
CLOSED = 'realtime_connections_closed_total{{code="{}"}}'
ENDS = (1002, 1007, 1008, 1009)
"""How a connection may end that sent what it should not."""


def end_of(peer: Peer) -> int:
    """Read until a close frame, or until the connection has ended without one; the code."""
    while True:
        try:
            came = peer.frame()
        except (Ended, OSError):
            return 1006
        if came.opcode == 8:
            return int.from_bytes(bytes(came.data[:2]), "big")


def handled(peer: Peer, sentinel: str, told: Counter[str]) -> None:
    """Count the answers until that to the sentinel: each message before it has been handled."""
    peer.send(command("ping", ref=sentinel))
    while (message := peer.message()).get("ref") != sentinel:
        told[message.get("code") or message["type"]] += 1


def mutates_commands(target: Target) -> Counter[str]:
    """Thousands of commands with something changed about them. All of them are handled; but for one that is no UTF-8,
    which ends its connection with 1007, so that it comes last."""
    rng, told = target.rng, Counter[str]()
    for number in target.paced(MUTATIONS // AT_ONCE):
        peer = target.member(user=number % len(target.tokens), source=f"127.6.{10 + number // 250}.{number % 250 + 1}")
        texts = [mutated(rng, rng.choice(COMMANDS)) for _ in range(AT_ONCE)]
        broken = [text for text in texts if text != text.decode("utf-8", "ignore").encode()]
        peer.send(*(frame(TEXT, text.decode("utf-8", "ignore").encode()) for text in texts))
        handled(peer, f"s{number}", told)
        told["handled"] += AT_ONCE
        if broken:
            peer.send(frame(TEXT, broken[0]))
            code = end_of(peer)
            assert code == 1007, code
            told["closed 1007"] += 1
        peer.socket.close()
    assert told["handled"] == MUTATIONS
    return told


def mutates_packets(target: Target) -> Counter[str]:
    """Thousands of packets of Engine.IO and Socket.IO with something changed about them, over WebSockets."""
    rng, told, sent = target.rng, Counter[str](), 0
    for number in target.paced(PACKET_MUTATIONS // AT_ONCE):
        peer = sessions.connected(target, user=number % len(target.tokens), source=f"127.6.20.{number + 1}")
        opcodes, packets = rng.choices((TEXT, TEXT, BINARY), k=AT_ONCE), rng.choices(PACKETS, k=AT_ONCE)
        frames = [frame(opcode, mutated(rng, packet)) for opcode, packet in zip(opcodes, packets, strict=True)]
        with contextlib.suppress(OSError):
            for each in frames:
                peer.send(each)
            peer.send(frame(TEXT, b"no packet"))  # if nothing before did, this ends the session
        sent += AT_ONCE
        code = end_of(peer)
        assert code in (*ENDS, 1000, 1006), code
        told[f"closed {code}"] += 1
        peer.socket.close()
    assert sent == PACKET_MUTATIONS
    return told


def mutates_bodies(target: Target) -> Counter[str]:
    """The same in the bodies of requests, and with mutated queries."""
    rng, told = target.rng, Counter[str]()
    query = sessions.POLLING.partition("?")[2].encode()
    for number in target.paced(BODIES):
        source = f"127.6.21.{number + 1}"
        status, opened = sessions.request(target, "GET", sessions.POLLING, source=source)
        if status != 200:
            told[f"handshake {status}"] += 1
            continue
        sid = json.loads(opened[1:])["sid"]
        session = f"{sessions.POLLING}&sid={sid}"
        packets = [mutated(rng, rng.choice([*PACKETS, b"b" + base64.b64encode(b"attachment")])) for _ in range(5)]
        token = json.dumps({"token": target.tokens[number % len(target.tokens)]})
        for body in (f"40{token}".encode(), b"\x1e".join(packets)):
            told[f"POST {sessions.request(target, 'POST', session, body, source=source)[0]}"] += 1
        path = b"/socket.io/?" + mutated(rng, query + b"&sid=" + sid.encode())
        clean = "".join(chr(byte) if 0x21 <= byte < 0x7F and byte != 0x23 else f"%{byte:02x}" for byte in path)
        told[f"query {sessions.request(target, 'POST', clean, b'2', source=source)[0]}"] += 1
        told[f"end {sessions.request(target, 'POST', session, b'1', source=source)[0]}"] += 1
    assert told["POST 200"], told
    assert not [each for each in told if each.split()[1][0] == "5"], told
    return told


def sends_noise(target: Target) -> Counter[str]:
    """Random bytes right after the handshake, and after a good command."""
    rng, told = target.rng, Counter[str]()
    for number in target.paced(RAW_CONNECTIONS):
        peer = target.connect("/ws/" if number % 3 else sessions.WEBSOCKET, source=f"127.6.22.{number + 1}")
        with contextlib.suppress(OSError):
            peer.send(b"" if number % 2 else command("ping", ref=1), rng.randbytes(rng.choice((2, 20, 200, 20_000))))
            peer.send(b"\xff" * 14)  # reserved bits and opcode, wherever a frame may begin here
            peer.send(rng.randbytes(300_000))
        with contextlib.suppress(OSError):
            peer.socket.shutdown(socket.SHUT_WR)
        told[f"closed {end_of(peer)}"] += 1
        peer.socket.close()
    return told


@ON_BOTH
def test_mutated_commands(siege: Siege) -> None:
    """10,000 of them: errors of the protocol's own codes, or 1007 for what is no UTF-8."""
    outcome = siege.withstand(
        mutates_commands, metric="realtime_errors_total", log="connection_closed .*code=1007", seconds=3.0
    )
    assert all(told["bad_json"] and "internal_error" not in told for told in outcome.told)


def sends_bad_sessions(target: Target) -> Counter[str]:
    """Sessions in both ways, one after the other."""
    part = replace(target, seconds=target.seconds / 2)
    return mutates_packets(part) + mutates_bodies(part)


@ON_BOTH
def test_mutated_sessions(siege: Siege) -> None:
    """Socket.IO over WebSockets ends with 1007 or 1008 at the worst; over HTTP requests are answered with 400 at the
    worst, and their sessions end."""
    siege.withstand(
        sends_bad_sessions,
        metric=CLOSED.format(1008),
        log="connection_closed .*code=1008 .*transport=socketio",
        seconds=2.0,
    )


@ON_BOTH
def test_noise(siege: Siege) -> None:
    """Bytes that are no frames end with 1002 at the first of them that cannot be one."""
    siege.withstand(sends_noise, metric=CLOSED.format(1002), log=r"connection_closed .*code=1002 reason='\w")
