"""Peers that are gone without a word, and those that only say that they will say nothing more. (Attack 10.)"""

from __future__ import annotations

import contextlib
import socket
import time

import pytest

from tests.acceptance.abuse import sessions
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH, StartSiege
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import PING, PONG, Ended, command, frame, head
from tests.acceptance.engine.wire import Wire, turn
from tests.acceptance.limits.test_half_open import pull_the_cable

VANISHED = 20
HALF_CLOSED = 40
PINGS = {"PING_INTERVAL_SECONDS": 1, "PING_TIMEOUT_SECONDS": 4}  # who is there must answer, however busy the machine
PATIENCE_SECONDS = 30.0
CLOSED_ABNORMALLY = 'realtime_connections_closed_total{code="1006"}'
GONE = "connection_closed .*code=1006"


def vanishes(target: Target) -> float:
    """Members of a room of whom from one moment on nothing comes, and to whom nothing gets. A friend goes on talking in
    it, until he is told that they have left."""
    watcher = target.member()
    watcher.do("join", room="quay", members=True)
    friend = Wire(watcher)
    vanished = [target.member("quay", user=1 + n % 7, source=f"127.6.8.{n + 1}") for n in range(VANISHED)]
    for peer in vanished:
        pull_the_cable(peer)
    begun, sent, answered = time.monotonic(), 0, 0
    while len(left := {each["id"] for push in friend.messages("members") for each in push["left"]}) < VANISHED:
        passed = time.monotonic() - begun
        assert passed < PATIENCE_SECONDS, f"{len(left)} of {VANISHED} were found out"
        if sent < passed * 10:
            friend.send(command("room", room="quay", data="x" * 100))
            sent += 1
        pings = [each for each in friend.frames if each.opcode == PING]
        friend.send(*(frame(PONG, bytes(each.data)) for each in pings[answered:]))
        answered = len(pings)
        turn([friend])
    assert left == {peer.id for peer in vanished}
    for peer in (*vanished, watcher):
        peer.socket.close()
    return round(time.monotonic() - begun, 1)


def half_closes(target: Target) -> None:
    """Ends its own direction only: between two messages, within a frame, in a session, or before it was answered. The
    node ends the other one."""
    for number in target.paced(HALF_CLOSED):
        source = f"127.6.9.{number + 1}"
        way = number % 4
        if way == 3:
            shakes_hands_only(target, source)
            continue
        peer = sessions.connected(target, source=source) if way == 2 else target.connect(source=source)
        if way == 1:
            peer.send(head(1, 100), b"mask and a piece")
        peer.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(Ended, OSError):
            peer.rest()
        peer.socket.close()


def shakes_hands_only(target: Target, source: str) -> None:
    """Asks for a WebSocket and ends its direction in the same breath."""
    with socket.create_connection(("127.0.0.1", target.port), timeout=10, source_address=(source, 0)) as plain:
        lines = ["GET /ws/ HTTP/1.1", f"Host: 127.0.0.1:{target.port}", "Connection: Upgrade", "Upgrade: websocket"]
        lines += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "", ""]
        plain.sendall("\r\n".join(lines).encode())
        plain.shutdown(socket.SHUT_WR)
        with contextlib.suppress(OSError):
            while plain.recv(65_536):
                pass


@pytest.mark.slow
@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_peers_that_vanish(start_siege: StartSiege, server: str) -> None:
    """They are pinged, found out and let go while others talk to them."""
    siege = start_siege(servers=(server,), **PINGS)
    outcome = siege.withstand(vanishes, metric=CLOSED_ABNORMALLY, log=GONE, niceness=0)
    assert all(each.grown >= VANISHED for each in outcome.rounds), outcome


@ON_BOTH
def test_peers_that_close_half(siege: Siege) -> None:
    """A connection of which one half has ended is over: nothing waits for it, and nothing is kept of it."""
    siege.withstand(half_closes, metric=CLOSED_ABNORMALLY, log=GONE)
