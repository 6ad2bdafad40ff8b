"""Plain text frames are taken by a quick parser and all others by autobahn's: together they keep one order."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator

import pytest
from websockets.frames import Opcode

from realtime.protocol.frames import take_text_messages
from tests.acceptance.engine.application import BINARY_CAME
from tests.acceptance.engine.conftest import DIRECT, Echo, NewPeer
from tests.acceptance.engine.peer import BINARY, CONTINUATION, PING, PONG, TEXT, Peer, command, frame, text
from tests.support.cluster import DaphneNode

MIXED = [
    text("1"),
    frame(PING, b"a"),
    text("zwölf: 2"),
    frame(TEXT, b"3 in ", fin=False),
    frame(PING, b"b"),
    frame(CONTINUATION, "fragmentß".encode()[:-1], fin=False),
    frame(CONTINUATION, "ß".encode()[1:]),
    text(""),
    text("4" * 130),
    frame(PONG, b"unasked"),
    frame(BINARY, b"\x81\x80"),
    text("5"),
    text("6"),
]
TEXTS = [b"1", "zwölf: 2".encode(), "3 in fragmentß".encode(), b"", b"4" * 130, BINARY_CAME, b"5", b"6"]
PONGS = [b"a", b"b"]


@pytest.fixture
def in_turn(engine: DaphneNode, new_peer: NewPeer) -> Callable[[Peer, list[bytes]], None]:
    """Sends segments so that the node reads each by itself: between two of them it has answered somebody else."""
    other = new_peer(engine)

    def send(peer: Peer, segments: list[bytes]) -> None:
        for segment in segments:
            peer.send(segment)
            other.do("ping")

    return send


@pytest.fixture
def direct(engine: DaphneNode) -> Iterator[Echo]:
    with Echo(engine.port, DIRECT) as peer:
        peer.path = DIRECT
        yield peer


def assert_echoed(peer: Peer, texts: list[bytes] = TEXTS, pongs: list[bytes] = PONGS) -> None:
    """All the answers to MIXED, each kind in its order."""
    came = [peer.frame() for _ in range(len(texts) + len(pongs))]
    assert [bytes(each.data) for each in came if each.opcode is Opcode.TEXT] == texts
    assert [bytes(each.data) for each in came if each.opcode is Opcode.PONG] == pongs


def test_the_quick_parser_takes_only_some_of_it() -> None:
    """The stream of these tests does go both ways."""
    messages, rest = take_text_messages(b"".join(MIXED), 1 << 20)
    assert messages == [b"1"]
    assert rest.endswith(MIXED[-1])


def test_everything_in_one_segment(direct: Echo) -> None:
    """All kinds of frames at once; a hundred times, so that each also follows each."""
    for _ in range(100):
        direct.send(*MIXED)
        assert_echoed(direct)


def test_a_segment_border_at_every_byte(direct: Echo, in_turn: Callable[[Peer, list[bytes]], None]) -> None:
    """Wherever the stream is cut in two, the same answers come."""
    stream = b"".join(MIXED)
    for border in range(1, len(stream)):
        in_turn(direct, [stream[:border], stream[border:]])
        assert_echoed(direct)


def test_every_byte_by_itself(direct: Echo, in_turn: Callable[[Peer, list[bytes]], None]) -> None:
    """The stream in segments of one byte."""
    in_turn(direct, [bytes([byte]) for byte in b"".join(MIXED)])
    assert_echoed(direct)


def test_frames_in_any_order_cut_anywhere(
    direct: Echo, rng: random.Random, in_turn: Callable[[Peer, list[bytes]], None]
) -> None:
    """Two hundred streams of random frames in random segments."""
    for _ in range(200):
        frames, texts, pongs = [], [], []
        for number in range(rng.randrange(1, 12)):
            payload = b"%d" % number * rng.choice([0, 1, 1, 1, 130, 70_000 if rng.random() < 0.05 else 5])
            kind = rng.choice(["text", "text", "text", "ping", "fragments", "binary"])
            if kind == "text":
                frames.append(text(payload))
            elif kind == "ping":
                frames.append(frame(PING, payload[:125]))
            elif kind == "binary":
                frames.append(frame(BINARY, payload))
            else:
                frames += [frame(TEXT, payload, fin=False), frame(PING, payload[:9]), frame(CONTINUATION, payload)]
            texts += {"text": [payload], "fragments": [payload * 2], "binary": [BINARY_CAME]}.get(kind, [])
            pongs += {"ping": [payload[:125]], "fragments": [payload[:9]]}.get(kind, [])
        stream = b"".join(frames)
        borders = sorted(rng.sample(range(1, len(stream)), min(len(stream) - 1, rng.randrange(4))))
        in_turn(direct, [stream[a:b] for a, b in zip([0, *borders], [*borders, len(stream)], strict=True)])
        assert_echoed(direct, texts, pongs)


def test_commands_are_answered_in_order(engine: DaphneNode, new_peer: NewPeer, rng: random.Random) -> None:
    """On `/ws/`, a thousand commands in frames of all kinds and random segments: one answer each, in order."""
    peer = new_peer(engine)
    peer.do("join", room="fast")
    frames = []
    for number in range(1_000):
        whole = json.dumps({"type": "ping", "ref": f"{number} {'ü€' * rng.randrange(40)}"}, ensure_ascii=False).encode()
        kind = rng.randrange(6)
        if kind == 0:
            border = rng.randrange(len(whole))
            frames += [frame(TEXT, whole[:border], fin=False), frame(CONTINUATION, whole[border:])]
        elif kind == 1:
            frames += [frame(PING, b"%d" % number), text(whole)]
        else:
            frames.append(text(whole))
    frames.append(command("ping", ref="last"))
    stream = b"".join(frames)
    borders = sorted(rng.sample(range(1, len(stream)), 100))
    for start, end in zip([0, *borders], [*borders, len(stream)], strict=True):
        peer.send(stream[start:end])
    answers = [peer.message() for _ in range(1_001)]
    assert {answer["type"] for answer in answers} == {"pong"}
    assert [answer["ref"].partition(" ")[0] for answer in answers] == [*map(str, range(1_000)), "last"]


def test_a_violation_after_a_message_in_one_segment(direct: Echo) -> None:
    """The message is answered first, wherever the segment is cut afterwards."""
    direct.send(text("good"), frame(TEXT, b"x", rsv=2)[:3])
    assert direct.payload() == b"good"
    assert direct.closed()[0] == 1002
