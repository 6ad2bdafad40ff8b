"""Subscriptions, receipts, tasks and missed notices: the small parts of a node."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection

import pytest
from msgspec import Raw

from realtime.exceptions import BackplaneUnavailable
from realtime.hub import Hub, Member
from realtime.instrument import Instrument
from realtime.layers.backplane import Backplane, Listener
from realtime.missed import MissedNotices
from realtime.protocol.envelope import PrivateEnvelope, RoomEnvelope
from realtime.receipts import Receipts
from realtime.stamp import Stamp
from realtime.subscriptions import Subscriptions
from realtime.tasks import TaskGroup
from tests.unit.writers import RecordingWriter


class SlowBackplane(Backplane):
    """Keeps a list of what was asked; answers when told to, or refuses."""

    name = "slow"
    promises_ack = True

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.is_down = False

    async def open(self, channel: str, listener: Listener) -> None: ...

    async def close(self) -> None: ...

    async def subscribe(self, groups: Collection[str]) -> None:
        self.calls += [f"+{group}" for group in groups]
        if self.is_down:
            raise BackplaneUnavailable
        await self.may_answer.wait()

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self.calls += [f"-{group}" for group in groups]

    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        raise NotImplementedError

    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        raise NotImplementedError


async def settled(tasks: TaskGroup) -> None:
    async with asyncio.timeout(5):
        while len(tasks):
            await asyncio.sleep(0)


async def test_a_group_is_subscribed_once_however_many_hold_it() -> None:
    """And unsubscribed after the last one."""
    backplane, tasks = SlowBackplane(), TaskGroup()
    subscriptions = Subscriptions(backplane, tasks)
    await asyncio.gather(*(subscriptions.acquire("g") for _ in range(3)))
    for _ in range(3):
        subscriptions.release("g")
    await settled(tasks)
    assert backplane.calls == ["+g", "-g"]
    assert len(subscriptions) == 0


async def test_nobody_is_told_before_the_backplane_confirmed() -> None:
    """Also the second holder waits for it."""
    backplane, tasks = SlowBackplane(), TaskGroup()
    backplane.may_answer.clear()
    subscriptions = Subscriptions(backplane, tasks)
    holders = [asyncio.create_task(subscriptions.acquire("g")) for _ in range(2)]
    await asyncio.sleep(0)
    assert not any(holder.done() for holder in holders)
    backplane.may_answer.set()
    await asyncio.gather(*holders)
    assert backplane.calls == ["+g"]


async def test_a_quick_leave_and_join_ends_subscribed() -> None:
    """The pending unsubscription sees the new holder."""
    backplane, tasks = SlowBackplane(), TaskGroup()
    subscriptions = Subscriptions(backplane, tasks)
    await subscriptions.acquire("g")
    subscriptions.release("g")
    await subscriptions.acquire("g")
    await settled(tasks)
    assert backplane.calls == ["+g"]


async def test_a_failed_subscription_is_not_held_unless_asked_for() -> None:
    """A room is refused; what the node itself needs is kept for the recovery."""
    backplane, tasks = SlowBackplane(), TaskGroup()
    backplane.is_down = True
    subscriptions = Subscriptions(backplane, tasks)
    with pytest.raises(BackplaneUnavailable):
        await subscriptions.acquire("room")
    await settled(tasks)
    assert backplane.calls == ["+room", "-room"]
    with pytest.raises(BackplaneUnavailable):
        await subscriptions.acquire("own", keep_on_failure=True)
    await settled(tasks)
    assert backplane.calls[2:] == ["+own"]


async def test_a_holder_that_is_cancelled_lets_go() -> None:
    """A client that went away while it joined."""
    backplane, tasks = SlowBackplane(), TaskGroup()
    backplane.may_answer.clear()
    subscriptions = Subscriptions(backplane, tasks)
    holder = asyncio.create_task(subscriptions.acquire("g"))
    await asyncio.sleep(0)
    holder.cancel()
    backplane.may_answer.set()
    await asyncio.gather(holder, return_exceptions=True)
    await settled(tasks)
    assert backplane.calls == ["+g", "-g"]


async def test_a_receipt_is_settled_once() -> None:
    """The second answer changes nothing."""
    receipts, answers = Receipts(5), list[bool]()
    number = receipts.expect(answers.append)
    receipts.settle(number, True)
    receipts.settle(number, False)
    assert answers == [True]
    assert len(receipts) == 0


async def test_a_receipt_that_never_comes_is_a_no() -> None:
    """After its time; a cancelled one says nothing."""
    receipts, answers = Receipts(0.001), list[bool]()
    cancelled = receipts.expect(lambda is_delivered: answers.append(not is_delivered))
    receipts.expect(answers.append)
    receipts.cancel(cancelled)
    async with asyncio.timeout(5):
        while not answers:
            await asyncio.sleep(0.001)
    assert answers == [False]
    assert len(receipts) == 0


async def test_a_task_that_fails_is_logged_and_told_to_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    """With its name."""
    failed: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    tasks = TaskGroup(failed.append)
    with caplog.at_level(logging.ERROR, "realtime.tasks"):
        tasks.start("heartbeat", fail())
        await settled(tasks)
    assert failed == ["heartbeat"]
    assert "task_failed task=heartbeat" in caplog.text


def hub_with(**rooms: list[str]) -> tuple[Hub, dict[str, RecordingWriter]]:
    hub, writers = Hub(), dict[str, RecordingWriter]()
    for name, joined in rooms.items():
        writers[name] = RecordingWriter()
        member = Member(name, "7" if name == "user" else None, writers[name])
        hub.add(member)
        for room in joined:
            hub.join(member, room)
    return hub, writers


def test_missed_names_the_rooms_of_each_connection_and_nobody_else_is_told() -> None:
    """One shard lost two of three rooms."""
    hub, writers = hub_with(a=["x", "y"], b=["y", "z"], c=["z"])
    MissedNotices(hub, Instrument(), "rt.node.me", 0.1).tell(frozenset({"rt.r.x", "rt.r.y"}))
    assert writers["a"].messages == [{"type": "missed", "rooms": ["x", "y"]}]
    assert writers["b"].messages == [{"type": "missed", "rooms": ["y"]}]
    assert writers["c"].messages == []


@pytest.mark.parametrize("group", ["rt.all", "rt.node.me"])
def test_a_lost_broadcast_or_private_message_may_concern_anybody(group: str) -> None:
    """Then the rooms are null."""
    hub, writers = hub_with(a=["x"], b=[])
    MissedNotices(hub, Instrument(), "rt.node.me", 0.1).tell(frozenset({group, "rt.r.x"}))
    assert writers["a"].messages == writers["b"].messages == [{"type": "missed", "rooms": None}]


def test_a_users_private_messages_may_be_missing() -> None:
    """On that user's connections."""
    hub, writers = hub_with(user=[], other=[])
    MissedNotices(hub, Instrument(), "rt.node.me", 0.1).tell(frozenset({"rt.u.7"}))
    assert writers["user"].messages == [{"type": "missed", "rooms": None}]
    assert writers["other"].messages == []


async def test_what_is_missed_in_quick_succession_is_told_once() -> None:
    """A flood of unreadable envelopes is no flood of notices."""
    hub, writers = hub_with(a=["x", "y"])
    notices = MissedNotices(hub, Instrument(), "rt.node.me", 0.001)
    for room in ["x", "y"] * 100:
        notices.tell_soon([room])
    async with asyncio.timeout(5):
        while not writers["a"].texts:
            await asyncio.sleep(0.001)
    assert writers["a"].messages == [{"type": "missed", "rooms": ["x", "y"]}]
    notices.tell_soon(None)
    notices.tell_soon(["x"])
    async with asyncio.timeout(5):
        while len(writers["a"].texts) < 2:
            await asyncio.sleep(0.001)
    assert writers["a"].messages[1:] == [{"type": "missed", "rooms": None}]


def test_notices_count_as_messages_sent() -> None:
    """With their bytes, in one call for all of them."""

    class Counting(Instrument):
        def __init__(self) -> None:
            self.sent: list[tuple[int, int]] = []

        def messages_sent(self, count: int, size: int) -> None:
            self.sent.append((count, size))

    hub, writers = hub_with(a=["x", "y"], b=["y"], c=[])
    instrument = Counting()
    MissedNotices(hub, instrument, "rt.node.me", 0.1).tell(frozenset({"rt.r.x", "rt.r.y"}))
    texts = [text for writer in writers.values() for text in writer.texts]
    assert instrument.sent == [(2, sum(map(len, texts)))]


async def test_few_publications_say_when_they_were_published() -> None:
    """The first one, and then none until the time is over; those for one recipient never."""
    stamp = Stamp()
    private = PrivateEnvelope(v=1, to="user:1", data=Raw(b"1"))
    assert stamp.put(private) is private
    assert stamp.is_due
    before = time.time()
    stamped = stamp.put(RoomEnvelope(v=1, room="x", data=Raw(b"1")))
    assert isinstance(stamped, RoomEnvelope)
    assert stamped.at is not None
    assert before <= stamped.at <= time.time()
    assert not stamp.is_due
    async with asyncio.timeout(5):
        while not stamp.is_due:
            await asyncio.sleep(0.01)
