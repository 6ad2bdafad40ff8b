"""Order per member when what goes straight to the socket mixes with what has to wait in a buffer."""

from __future__ import annotations

import json
import random

from websockets.frames import Opcode

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.peer import PING, command, frame, text
from tests.acceptance.engine.wire import Wire, pump, turn
from tests.conftest import StartCluster

MESSAGES = 50_000
SENDERS = 4
TINY_BUFFER = 4096
WITHIN_SECONDS = 60.0
GENEROUS = {"REALTIME_BACKLOG_MAX_BYTES": str(1 << 29), "REALTIME_BACKLOG_HARD_MAX_BYTES": str(1 << 30)}


class Sender:
    """Fills a room with numbered messages of random sizes, and writes a private one to the slow reader now and then."""

    def __init__(self, wire: Wire, reader: str, rng: random.Random) -> None:
        self.wire = wire
        self.reader = reader
        self.rng = rng
        self.pushed: dict[str, list[bytes]] = {"room": [], "private": []}

    def send(self, count: int) -> None:
        sender = self.wire.peer.id
        for _ in range(count):
            size = self.rng.choice([0, 10, 80, 126, 300, 900])
            data = json.dumps([len(self.pushed["room"]), "x" * size], separators=(",", ":"))
            self.wire.send(text(f'{{"type":"room","room":"order","data":{data}}}'))
            self.pushed["room"].append(f'{{"type":"room","room":"order","from":"{sender}","data":{data}}}'.encode())
            if self.rng.random() < 0.02:
                data = str(len(self.pushed["private"]))
                self.wire.send(text(f'{{"type":"private","to":"{self.reader}","data":{data}}}'))
                self.pushed["private"].append(f'{{"type":"private","from":"{sender}","data":{data}}}'.encode())


class Asker:
    """Lets the slow reader ask for replies and pongs of all kinds in between."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.replies: list[bytes] = []
        self.pongs: list[bytes] = []

    def ask(self) -> None:
        number = len(self.replies)
        room = f"side {number}"
        self.wire.send(command("ping", ref=number), frame(PING, b"%d" % number))
        self.wire.send(command("join", room=room, ref="j"), command("leave", room=room), text("{"))
        self.pongs.append(b"%d" % number)
        self.replies += [
            b'{"type":"pong","ref":%d}' % number,
            f'{{"type":"joined","room":"{room}","ref":"j"}}'.encode(),
            f'{{"type":"left","room":"{room}"}}'.encode(),
            b'{"type":"error","code":"bad_json"',
        ]


def test_a_peer_that_reads_in_bursts(start_cluster: StartCluster, new_wire: NewWire, rng: random.Random) -> None:
    """A peer with a receive buffer of 4 KB that reads in bursts, catches up and falls behind again gets every byte: the
    room's messages as everybody else gets them, and its replies, pongs and private messages in their order."""
    node = start_cluster(nodes=1, environment=GENEROUS).nodes[0]
    quick = new_wire(node, "order")
    slow = new_wire(node, "order", receive_buffer=TINY_BUFFER)
    senders = [Sender(new_wire(node, "order"), slow.peer.id, rng) for _ in range(SENDERS)]
    asker = Asker(slow)
    everyone = [quick, slow, *(sender.wire for sender in senders)]
    sent = caught_up = 0
    slow.appetite = 0

    def rooms(wire: Wire) -> list[bytes]:
        return [each for each in wire.texts if each.startswith(b'{"type":"room"')]

    def is_up_to_date() -> bool:
        private = sum(len(sender.pushed["private"]) for sender in senders)
        return len(slow.texts) == sent + private + len(asker.replies)

    while sent < MESSAGES:
        for sender in senders:
            sender.send(count := min(rng.randrange(2 * MESSAGES // 1000), MESSAGES - sent))
            sent += count
        if rng.random() < 0.3:
            asker.ask()
        slow.appetite = rng.choice([0, 1, 500, 5_000, 50_000, 500_000])
        turn(everyone, 0)
        turn(everyone, 0)
        if rng.random() < 0.1:
            slow.appetite = None
            pump(everyone, is_up_to_date, "the slow one catches up", WITHIN_SECONDS)
            caught_up += 1
    slow.appetite = None
    pump(everyone, lambda: is_up_to_date() and len(quick.texts) == sent, "everything came", WITHIN_SECONDS)

    for wire in everyone:
        wire.assert_whole()
    print(f"{sent} messages, {len(slow.raw)} bytes, caught up {caught_up} times")
    assert caught_up > 5
    assert rooms(slow) == rooms(quick)
    for sender in senders:
        mine = b'"from":"' + sender.wire.peer.id.encode()
        for kind, pushed in sender.pushed.items():
            begin = f'{{"type":"{kind}"'.encode()
            assert [each for each in slow.texts if each.startswith(begin) and mine in each] == pushed
    answers = [each for each in slow.texts if not each.startswith((b'{"type":"room"', b'{"type":"private"'))]
    assert [each[: len(wanted)] for each, wanted in zip(answers, asker.replies, strict=True)] == asker.replies
    assert [bytes(each.data) for each in slow.frames if each.opcode is Opcode.PONG] == asker.pongs
    assert {each.opcode for each in slow.frames} == {Opcode.TEXT, Opcode.PONG}
