"""A sender does not get its own message back, also where many senders' messages leave in one batch."""

from __future__ import annotations

import random

import pytest

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.peer import command
from tests.acceptance.engine.wire import Wire, pump
from tests.acceptance.nodes import metric
from tests.support.cluster import DaphneNode

SENDERS = 8
EACH = 2_000
WITHIN_SECONDS = 30.0
BATCHES = ["realtime_batch_envelopes_count", "realtime_batch_envelopes_sum"]


def pushes(wire: Wire, kind: str) -> list[tuple[str, int]]:
    return [(each["from"], each["data"]) for each in wire.messages(kind)]


@pytest.mark.parametrize("kind", ["room", "broadcast"])
def test_senders_in_one_batch(engine: DaphneNode, new_wire: NewWire, rng: random.Random, kind: str) -> None:
    """Eight clients send 2,000 messages each, many at once, some with `echo`: everybody gets one and the same sequence,
    but for its own messages without `echo`."""
    senders = [new_wire(engine, "crowd") for _ in range(SENDERS)]
    observer = new_wire(engine, "crowd")
    everyone = [*senders, observer]
    where = {"room": "crowd"} if kind == "room" else {}
    echoed: dict[str, set[int]] = {wire.peer.id: set() for wire in senders}
    before = [metric(engine, name) for name in BATCHES]
    for first in range(0, EACH, 50):
        for wire in senders:
            for number in range(first, first + 50):
                echo = rng.random() < 0.1
                wire.send(command(kind, **where, data=number, echo=echo))
                if echo:
                    echoed[wire.peer.id].add(number)
    pump(everyone, lambda: len(observer.texts) >= SENDERS * EACH, "all messages", WITHIN_SECONDS)
    for wire in senders:
        wire.send(command("ping", ref="the end"))
    pump(everyone, lambda: all(b"the end" in wire.texts[-1] for wire in senders), "all answers", WITHIN_SECONDS)
    common = pushes(observer, kind)
    assert len(common) == SENDERS * EACH
    for wire in senders:
        own = wire.peer.id
        assert [number for sender, number in common if sender == own] == list(range(EACH))
        wanted = [(sender, number) for sender, number in common if sender != own or number in echoed[own]]
        assert pushes(wire, kind) == wanted
        assert len(wire.texts) == len(wanted) + 1
    batches, envelopes = (metric(engine, name) - then for name, then in zip(BATCHES, before, strict=True))
    assert envelopes / batches > 2, "the messages hardly ever met in a batch: this test has shown nothing"
