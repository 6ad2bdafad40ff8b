"""Too much of what is allowed: commands, joins, broadcasts, connects. (Attack 11.)

A million distinct keys for the limiter are in `tests/unit/test_rates.py`.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator

from websockets.frames import Close, Opcode

from realtime.auth import issue_token
from tests.acceptance.abuse import sessions
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import StartSiege
from tests.acceptance.abuse.siege import SECRET_KEY, Siege
from tests.acceptance.engine.peer import Peer, Refused, command
from tests.acceptance.limits.conftest import counted
from tests.acceptance.nodes import assert_no_traceback

POLICY = (1008, "Policy violation")
COMMANDS = 10_000
sources: Iterator[str] = (f"127.8.{number // 250}.{number % 250 + 1}" for number in itertools.count())


def answers(peer: Peer) -> Counter[str]:
    """The answers up to the close frame, by type or by the code of the error."""
    found: Counter[str] = Counter()
    while True:
        came = peer.frame()
        if came.opcode is Opcode.CLOSE:
            closed = Close.parse(bytes(came.data))
            assert (int(closed.code), closed.reason) == POLICY
            return found
        if came.opcode is Opcode.TEXT:
            message = bytes(came.data)
            kind = json.loads(message) if message[:1] == b"{" else {"type": "socketio"}
            found[kind.get("code", kind["type"])] += 1


def flood(peer: Peer, *messages: bytes) -> Counter[str]:
    """Send without reading; then what came."""
    try:
        for start in range(0, len(messages), 100):
            peer.socket.sendall(b"".join(messages[start : start + 100]))
    except ConnectionError:
        pass
    found = answers(peer)
    peer.socket.close()
    return found


def floods_commands(target: Target) -> list[dict[str, int]]:
    """10,000 pings, joins, room messages and events of Socket.IO at once, each on a connection of its own."""
    found = []
    for number in target.paced(4):
        peer = (
            sessions.connected(target, user=number, source=next(sources))
            if number == 3
            else target.member(user=number, source=next(sources))
        )
        messages = (
            [command("ping", ref=ref) for ref in range(COMMANDS)],
            [command("join", room=f"room-{ref}", ref=ref) for ref in range(COMMANDS)],
            [command("room", room="nowhere", data="x", ref=ref) for ref in range(COMMANDS)],
            [sessions.event("ping")] * COMMANDS,
        )[number]
        found.append(dict(flood(peer, *messages)))
    return found


def floods_handshakes(target: Target) -> dict[str, int]:
    """270 handshakes from one address, 200 of which may stay; in the end these go again."""
    source, peers = next(sources), list[Peer]()
    refused: Counter[tuple[int, int]] = Counter()
    connected = 0
    for number in target.paced(470):
        if number >= 270:
            if peers:
                peers.pop().socket.close()
            continue
        try:
            peers.append(target.connect(source=source))
            connected += 1
        except Refused as answer:
            refused[answer.status, int(answer.headers["retry-after"])] += 1
    for peer in peers:
        peer.socket.close()
    assert all(status == 503 and seconds >= 1 for status, seconds in refused), refused
    return {"connected": connected, "refused": refused.total()}


def test_floods_of_commands(siege: Siege) -> None:
    """Attack 11: a burst is handled, a hundred more are answered with `rate_limited`, then 1008; no more is parsed."""
    outcome = siege.withstand(
        floods_commands,
        metric='realtime_connections_evicted_total{reason="rate"}',
        log=r"limit_reached .*limit=rate ",
        seconds=4.0,
    )
    for pings, joins, rooms, events in outcome.told:
        assert 200 <= pings["pong"] < 400
        assert 150 <= joins["joined"] + joins["too_many_rooms"] < 200
        assert 200 <= rooms["not_joined"] < 400
        assert all(90 <= found["rate_limited"] <= 110 for found in (pings, joins, rooms))
        assert events["socketio"] >= 90


def test_floods_of_handshakes(siege: Siege) -> None:
    """Attack 11: beyond 200 at once an address gets 503 with `Retry-After`, before anybody asks who it is."""
    outcome = siege.withstand(
        floods_handshakes,
        metric="realtime_connections_refused_total",
        log=r"limit_reached .*limit=address_",
        seconds=5.0,
    )
    assert all(told["connected"] <= 200 and told["refused"] >= 70 for told in outcome.told)


def test_floods_of_handshakes_from_everywhere(start_siege: StartSiege) -> None:
    """Attack 11: what all addresses together may do is bounded as well; who is connected notices nothing."""
    siege = start_siege(NODE_CONNECTS_PER_SECOND=1, NODE_CONNECTS_BURST=30)
    node = siege.cluster.nodes[0]
    with Peer(node.port, headers={"Origin": f"http://127.0.0.1:{node.port}"}) as resident:
        statuses = Counter(handshake(node.port, next(sources)) for _ in range(120))
        assert set(statuses) == {101, 503}
        assert counted(node, "realtime_connections_refused_total", reason="node_rate") == statuses[503] >= 40
        assert re.search(r"limit_reached .*limit=node_rate", node.log)
        resident.do("ping")
    assert_no_traceback(siege.cluster)


def handshake(port: int, source: str) -> int:
    """The status that answers a client from there, which then hangs up."""
    head = f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
    head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(source, 0)) as plain:
        plain.sendall(f"{head}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        return int(plain.recv(4_096).split()[1])


def test_a_user_on_three_nodes(start_siege: StartSiege) -> None:
    """The nodes tell each other what a user has spent: three of them are no three times the rate."""
    rate, burst, seconds = 50, 20, 4.0
    siege = start_siege(
        servers=("daphne",) * 3,
        HEARTBEAT_SECONDS=0.2,
        NODE_TIMEOUT_SECONDS=60,
        COMMANDS_PER_SECOND=0,
        USER_COMMANDS_PER_SECOND=rate,
        USER_COMMANDS_BURST=burst,
        REFUSALS_MAX=1_000_000,
    )
    peers = [Peer(node.port, headers={"Origin": f"http://127.0.0.1:{node.port}"}) for node in siege.cluster.nodes]
    token = issue_token(1, keys=[SECRET_KEY])
    for peer in peers:
        peer.do("authenticate", token=token)
    found: Counter[str] = Counter()
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        for peer in peers:
            peer.send(command("ping") * 3)
        for peer in peers:
            for _ in range(3):
                message = peer.message()
                found[str(message.get("code", message["type"]))] += 1
        time.sleep(0.01)
    elapsed = time.monotonic() - begun
    alone = 3 * (burst + rate * elapsed)  # what three nodes would give that know nothing of each other
    told = 3 * (burst + rate * 1.0) + rate * elapsed  # heartbeats may be late by some of their intervals
    assert found["pong"] < told < alone, (found, elapsed)
    assert found["rate_limited"] > found["pong"]
    limited = [counted(node, "realtime_rate_limited_total", limit="user") for node in siege.cluster.nodes]
    assert all(limited), limited
    for peer in peers:
        peer.leave()
