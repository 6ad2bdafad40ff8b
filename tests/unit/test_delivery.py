"""From a run of publications to the writers of its audience."""

from __future__ import annotations

import asyncio
import time

import pytest
from msgspec import Raw

from realtime.delivery import LAG_MAX_SECONDS, STEP_BYTES, STEP_MEMBERS, Deliverer, Run, write_all
from realtime.hub import Hub, Member
from realtime.instrument import Instrument
from realtime.protocol.envelope import RoomEnvelope
from realtime.protocol.frames import FrameBatch
from tests.unit.writers import RecordingWriter

SECONDS = 0.01
"""How long a slice lasts."""


class Clock:
    """Goes on by ``step`` seconds at each look."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class CountingInstrument(Instrument):
    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []

        self.lags: list[float | None] = []

    def batch_delivered(self, publications: int, deliveries: int, size: int, lag_seconds: float | None) -> None:
        self.batches.append((publications, deliveries, size))
        self.lags.append(lag_seconds)


def audience(*names: str) -> tuple[Hub, dict[str, RecordingWriter]]:
    hub, writers = Hub(), {name: RecordingWriter() for name in names}
    for name, writer in writers.items():
        member = Member(name, None, writer)
        hub.add(member)
        hub.join(member, "lobby")
    return hub, writers


def run_of(*publications: tuple[bytes, str | None]) -> Run:
    run = Run()
    for text, skip in publications:
        run.add(text, skip)
    return run


def test_every_member_gets_the_same_batch_object() -> None:
    """Encoded once, one write per member."""
    hub, writers = audience("a", "b")
    Deliverer(Instrument(), SECONDS).deliver_now(hub.writers, run_of((b"1", None), (b"2", None)))
    assert writers["a"].batches[0] is writers["b"].batches[0]
    assert len(writers["a"].batches) == 1


def test_a_sender_is_left_out_of_its_own_publications_only() -> None:
    """Inside one batch."""
    hub, writers = audience("a", "b", "c")
    run = run_of((b"1", "a"), (b"2", "b"), (b"3", None), (b"4", "a"))
    Deliverer(Instrument(), SECONDS).deliver_now(hub.writers, run)
    assert writers["a"].texts == [b"2", b"3"]
    assert writers["b"].texts == [b"1", b"3", b"4"]
    assert writers["c"].texts == [b"1", b"2", b"3", b"4"]


def test_a_sender_of_everything_gets_no_write_at_all() -> None:
    """Not even an empty one."""
    hub, writers = audience("a")
    Deliverer(Instrument(), SECONDS).deliver_now(hub.writers, run_of((b"1", "a")))
    assert writers["a"].batches == []


def test_one_instrument_call_per_batch() -> None:
    """Never one per member; deliveries are counted exactly."""
    hub, _ = audience("a", "b", "c")
    instrument = CountingInstrument()
    Deliverer(instrument, SECONDS).deliver_now(hub.writers, run_of((b"1", "a"), (b"2", None)))
    assert [batch[:2] for batch in instrument.batches] == [(2, 5)]


@pytest.mark.parametrize(
    ("seconds_ago", "least", "most"),
    [(2.0, 2.0, 30.0), (-3600.0, 0.0, 0.0), (1e9, LAG_MAX_SECONDS, LAG_MAX_SECONDS), (None, None, None)],
)
def test_the_lag_is_told_with_the_batch(seconds_ago: float | None, least: float | None, most: float | None) -> None:
    """It is bounded, whatever a clock or a foreign publisher says; without a stamp there is none."""
    hub, _ = audience("a")
    instrument = CountingInstrument()
    run = run_of((b"1", None), (b"2", None))
    run.published_at = None if seconds_ago is None else time.time() - seconds_ago
    Deliverer(instrument, 100).deliver_now(hub.writers, run)
    (lag,) = instrument.lags
    if lag is None or least is None or most is None:
        assert lag is least is most
    else:
        assert least <= lag <= most


async def test_who_leaves_between_two_slices_gets_nothing_any_more() -> None:
    """And who is still there gets everything; other work runs in between."""
    names = [f"c{number}" for number in range(3 * STEP_MEMBERS)]
    hub, writers = audience(*names)
    room = hub.rooms["lobby"]
    deliverer = Deliverer(Instrument(), SECONDS, clock=Clock(SECONDS))
    delivering = asyncio.create_task(deliverer.deliver(room.writers, run_of((b"1", None))))
    await asyncio.sleep(0)
    first, second = names[STEP_MEMBERS - 1], names[STEP_MEMBERS]
    assert writers[first].texts == [b"1"]
    assert writers[second].texts == []
    hub.leave(hub.connections[second], "lobby")
    await delivering
    assert writers[second].texts == []
    assert all(writers[name].texts == [b"1"] for name in names if name != second)


async def test_a_big_room_is_served_at_once_while_the_slice_lasts() -> None:
    """A slice is time, not members: nothing is put off that is done soon."""
    hub, writers = audience(*(f"c{number}" for number in range(3 * STEP_MEMBERS)))
    deliverer = Deliverer(Instrument(), SECONDS, clock=Clock(SECONDS / 100))
    deliverer.begin_batch()
    delivering = asyncio.create_task(deliverer.deliver(hub.writers, run_of((b"1", None))))
    await asyncio.sleep(0)
    assert all(writer.texts == [b"1"] for writer in writers.values())
    await delivering


async def test_many_small_rooms_make_slices_too() -> None:
    """What lasts is the whole batch."""
    hub, writers = audience("a")
    deliverer = Deliverer(Instrument(), SECONDS, clock=Clock(SECONDS * 0.6))

    async def deliver_batch() -> None:
        deliverer.begin_batch()
        for text in (b"1", b"2", b"3"):
            await deliverer.deliver(hub.writers, run_of((text, None)))

    delivering = asyncio.create_task(deliver_batch())
    await asyncio.sleep(0)
    assert writers["a"].texts == [b"1", b"2"]
    await delivering
    assert writers["a"].texts == [b"1", b"2", b"3"]


async def test_big_messages_make_small_steps() -> None:
    """So that a few megabytes to many members do not stall the loop."""
    hub, writers = audience("a", "b")
    run = run_of((b"x" * (STEP_BYTES // 2 + 1), None))
    delivering = asyncio.create_task(Deliverer(Instrument(), SECONDS, clock=Clock(SECONDS)).deliver(hub.writers, run))
    await asyncio.sleep(0)
    assert (len(writers["a"].texts), len(writers["b"].texts)) == (1, 0)
    await delivering
    assert len(writers["b"].texts) == 1


def test_a_run_is_full_by_messages_or_bytes() -> None:
    """Whichever comes first."""
    run = run_of((b"12345", None), (b"12345", None))
    assert run.is_full(2, 1000)
    assert run.is_full(100, 10)
    assert not run.is_full(3, 11)


def test_write_all_counts_what_it_hands_over() -> None:
    """Messages, not writes."""
    hub, _ = audience("a", "b")
    assert write_all(hub.writers, FrameBatch([b"1", b"2", b"3"]), {"a": {0, 2}}) == 4


def test_who_is_left_out_is_so_in_the_other_protocol_too() -> None:
    """A sender's own batch is made of the publications of others alone."""
    hub, writers = audience("a", "b")
    run = Run()
    sources = [RoomEnvelope(v=1, room="lobby", data=Raw(b"%d" % number)) for number in range(3)]
    for source, skip in zip(sources, ("a", None, "a"), strict=True):
        run.add(bytes(source.data), skip, source)
    Deliverer(Instrument(), SECONDS).deliver_now(hub.writers, run)
    assert writers["a"].batches[0].sources == [sources[1]]
    assert writers["b"].batches[0].sources == sources
