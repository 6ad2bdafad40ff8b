"""Frames that no WebSocket client sends: too large, too many for one message, reserved, unmasked. (Attacks 5 and 7.)"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import BINARY, CLOSE, CONTINUATION, PING, TEXT, Peer, command, frame, head

MIB = 1024 * 1024
PROTOCOL_ERROR = 1002
TOO_BIG = (1009, "Message too big")
POLICY = (1008, "Policy violation")
ATTEMPTS = 12
LARGE_MESSAGES = 40
NOTHING_HELD_BYTES = 6 * MIB
"""Far less than what was declared or sent, or than a mebibyte of each message in pieces; and more than what a node
needs for some connections more."""
FEW = 50
CLOSED = 'realtime_connections_closed_total{{code="{}"}}'


def hangs_up(peer: Peer) -> None:
    """Close the TCP connection and nothing else, as somebody does who has made his point."""
    peer.socket.close()


def source(number: int) -> str:
    """One of many addresses, none of which connects often."""
    return f"127.6.{number // 250}.{number % 250 + 1}"


def declares_too_much(target: Target) -> None:
    """Begins a frame of 2^62 bytes."""
    for number in target.paced(ATTEMPTS):
        peer = target.connect(source=source(number))
        peer.send(head(TEXT, 1 << 62), os.urandom(4), b"x" * 10_000)
        assert peer.closed() == TOO_BIG
        hangs_up(peer)


def goes_on_with_what_it_declared(target: Target) -> None:
    """Begins messages and control frames of 2^62 bytes and sends of them whatever is taken, and reads nothing."""
    peers = [target.connect(source=source(number)) for number in range(4)]
    piece = b" " * 65_536
    for peer, opcode in zip(peers, (BINARY, TEXT, PING, CLOSE), strict=True):
        peer.send(head(opcode, 1 << 62), bytes(4))
        peer.socket.setblocking(False)
    end = time.monotonic() + target.seconds
    while time.monotonic() < end and peers:
        for peer in list(peers):
            try:
                peer.socket.send(piece)
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                peers.remove(peer)
                hangs_up(peer)
    for peer in peers:
        hangs_up(peer)


def sends_too_large_messages(target: Target) -> None:
    """Sends 2 MiB, in one frame and in 32, every time as a whole."""
    for number in target.paced(LARGE_MESSAGES):
        peer = target.connect(source=source(number))
        pieces = [frame(CONTINUATION, bytes(MIB // 16), fin=False, mask=bytes(4))] * 31
        whole = [frame(TEXT, b" " * 2 * MIB, mask=bytes(4))]
        with contextlib.suppress(OSError):
            peer.send(*(whole if number % 2 else [frame(BINARY, b"", fin=False), *pieces]))
        assert peer.closed() == TOO_BIG
        hangs_up(peer)


def sends_too_many_fragments(target: Target) -> None:
    """Messages in frames of one byte, far below the largest size, that never end. Slowly: what a flood of frames costs
    is another attack."""
    peers = [target.connect(source=source(number)) for number in range(ATTEMPTS)]
    for peer in peers:
        peer.send(frame(TEXT, b" ", fin=False))
    few = frame(CONTINUATION, b" ", fin=False) * FEW
    for number in target.paced(ATTEMPTS * (1_200 // FEW)):
        with contextlib.suppress(OSError):
            peers[number % ATTEMPTS].send(few)
    for peer in peers:
        assert peer.closed() == POLICY
        hangs_up(peer)


VIOLATIONS = {
    "RSV1, as of a compressed message": frame(TEXT, b'{"type":"ping"}', rsv=4),
    "RSV1 on a ping": frame(PING, b"x", rsv=4),
    "reserved data opcode": frame(0x3, b"x"),
    "reserved control opcode": frame(0xF, b"x"),
    "unmasked text": head(TEXT, 15, is_masked=False) + b'{"type":"ping"}',
    "unmasked ping": head(PING, 0, is_masked=False),
    "unmasked close": head(CLOSE, 2, is_masked=False) + b"\x03\xe8",
    "unmasked, 2^62 bytes": head(BINARY, 1 << 62, is_masked=False),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "ping of 2^62 bytes": head(PING, 1 << 62) + b"mask",
}


def violates_the_protocol(target: Target) -> None:
    """Each violation, in front of a good command that is not answered any more; half of the time again and again."""
    names = list(VIOLATIONS)
    for number in target.paced(4 * len(names)):
        name = names[number % len(names)]
        bad, codes = VIOLATIONS[name], (PROTOCOL_ERROR, TOO_BIG[0]) if "2^62" in name else (PROTOCOL_ERROR,)
        peer = target.connect(source=source(number))
        peer.send(command("ping", ref=1), bad, command("ping", ref=2))
        peer.expect("pong", ref=1)
        code, reason = peer.closed()
        assert code in codes, (name, code, reason)
        if number % 2:
            with contextlib.suppress(OSError):
                peer.send(bad * 100)
        hangs_up(peer)


def sends_too_much(target: Target) -> None:
    """All of these attacks, one after the other."""
    part = replace(target, seconds=target.seconds / 4)
    for attack in (
        declares_too_much,
        goes_on_with_what_it_declared,
        sends_too_large_messages,
        sends_too_many_fragments,
    ):
        attack(part)


@ON_BOTH
def test_frames_that_are_too_much(siege: Siege) -> None:
    """Attack 5: 1009 at the header of what is too large, 1008 at a fragment too many. Nothing is kept of what was
    declared; who goes on sending it is cut off, and nobody waits for him."""
    outcome = siege.withstand(
        sends_too_much,
        metric=CLOSED.format(1009),
        log=r"connection_closed .*code=1009 reason='Message too big'",
        also=[(CLOSED.format(1008), r"connection_closed .*code=1008 reason='Policy violation'")],
        seconds=3.0,
    )
    assert max(each.peak_bytes for each in outcome.rounds) < NOTHING_HELD_BYTES


@ON_BOTH
def test_violations_of_the_protocol(siege: Siege) -> None:
    """Attack 7: 1002 for each of them, whose reason the log has; what was complete before is answered."""
    siege.withstand(violates_the_protocol, metric=CLOSED.format(1002), log=r"connection_closed .*code=1002 reason='\S+")
