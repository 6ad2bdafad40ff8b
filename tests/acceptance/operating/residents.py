"""Clients that come back: each lives through one connection after the other, in one room, and some publish in it.

What a client may rely on is checked by causes, not by clocks: every message carries how many messages of each sender
the backplane had acknowledged before it was sent, so that whoever has received it must have received those as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.acceptance.client import Client, NothingCame

ROOM = "traffic"
PACE_SECONDS = 0.02  # between two messages of one sender
HASTE_SECONDS = 0.3  # before a client comes back, at most


@dataclass
class Stay:
    """From ``joined`` to the close frame; what was sent on it has its number as ``ref``."""

    name: str
    client: Client
    joined_at: float
    closed_at: float = float("inf")
    sent_at: list[float] = field(default_factory=list)

    @property
    def acked(self) -> int:
        """The backplane answers in order: so many from the first."""
        return len(self.client.pushes("ack"))

    def numbers_of(self, sender: Stay) -> list[int]:
        """What came of one sender, in the order in which it came."""
        return [push["data"]["number"] for push in self.client.pushes("room") if push["data"]["stay"] == sender.name]


class Residents:
    """All clients of one test, and all their stays."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.stays: dict[str, list[Stay]] = {}  # by client, in order
        self._url = url
        self._rng = rng
        self._is_over = asyncio.Event()
        self._may_send = True
        self._tasks: list[asyncio.Task[None]] = []

    async def enter(self, name: str, *, is_sender: bool) -> None:
        """A client comes, for as long as the test goes on."""
        self.stays[name] = []
        self._tasks.append(asyncio.create_task(self._live(name, is_sender), name=name))

    @property
    def all_stays(self) -> list[Stay]:
        return [stay for stays in self.stays.values() for stay in stays]

    @property
    def present(self) -> list[Stay]:
        """Those whose connection is open."""
        return [stays[-1] for stays in self.stays.values() if stays and not stays[-1].client.is_closed]

    async def all_present(self, within: float = 30.0) -> None:
        await self._until(lambda: len(self.present) == len(self.stays), within)

    async def more_traffic(self, messages: int, within: float = 30.0) -> None:
        """Until so many more have been acknowledged."""
        wanted = sum(stay.acked for stay in self.all_stays) + messages
        await self._until(lambda: sum(stay.acked for stay in self.all_stays) >= wanted, within)

    async def finish(self) -> None:
        """Stop sending; when everybody who is there has everything that was sent last, go."""
        self._may_send = False
        senders = [stay for stay in self.present if stay.sent_at]
        await self._until(lambda: all(stay.acked == len(stay.sent_at) for stay in senders), 10)
        for stay in self.present:
            for sender in senders:
                await self._until(lambda: stay.numbers_of(sender)[-1:] == [len(sender.sent_at) - 1], 10)  # noqa: B023
        self._is_over.set()
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        """Whatever happened: nobody stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stay in self.all_stays:
            await stay.client.close()

    def absences(self) -> list[tuple[Stay, Stay]]:
        """The stays before and after each time that a client was away."""
        return [pair for stays in self.stays.values() for pair in pairwise(stays)]

    async def _until(self, holds: object, within: float) -> None:
        assert callable(holds)
        async with asyncio.timeout(within):
            while not holds():
                self._raise_failures()
                await asyncio.sleep(0.02)

    def _raise_failures(self) -> None:
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    async def _live(self, name: str, is_sender: bool) -> None:
        over = asyncio.create_task(self._is_over.wait())
        while not self._is_over.is_set():
            client = await self._come()
            stay = Stay(f"{name}/{len(self.stays[name])}", client, time.monotonic())
            self.stays[name].append(stay)
            sending = asyncio.create_task(self._send(stay)) if is_sender else None
            end = asyncio.create_task(client.closed(600))
            await asyncio.wait([end, over], return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                stay.closed_at = time.monotonic()
            end.cancel()
            if sending is not None:
                await sending
        over.cancel()

    async def _come(self) -> Client:
        """Connect and join, however often it takes."""
        while True:
            await asyncio.sleep(self._rng.uniform(0, HASTE_SECONDS))
            try:
                client = await Client.connect(self._url, open_timeout=5)
            except (OSError, TimeoutError, InvalidHandshake, ConnectionClosed, NothingCame):
                continue
            try:
                return await client.join(ROOM)
            except (ConnectionClosed, NothingCame):
                await client.close()

    async def _send(self, stay: Stay) -> None:
        while self._may_send and not stay.client.is_closed:
            data = {
                "stay": stay.name,
                "number": len(stay.sent_at),
                "acked": {each.name: each.acked for each in self.all_stays if each.sent_at},
            }
            stay.sent_at.append(time.monotonic())
            try:
                await stay.client.send("room", room=ROOM, data=data, echo=True, ref=data["number"])
            except ConnectionClosed:
                return
            await asyncio.sleep(PACE_SECONDS)


def assert_no_gap(stays: Iterable[Stay]) -> None:
    """While it stays, a client gets the numbers of each sender one after the other."""
    senders = [stay for stay in stays if stay.sent_at]
    for stay in stays:
        for sender in senders:
            came = stay.numbers_of(sender)
            begin = came[0] if came else 0
            assert came == list(range(begin, begin + len(came))), (stay.name, sender.name, came)


def assert_nothing_acknowledged_is_missing(stays: Iterable[Stay]) -> int:
    """What was sent after a client had joined, and acknowledged before something was sent that it has received, it has
    received as well. Returns how many messages that was proved of."""
    by_name = {stay.name: stay for stay in stays}
    proved = 0
    for stay in by_name.values():
        known: dict[str, int] = {}
        for push in stay.client.pushes("room"):
            for name, acked in push["data"]["acked"].items():
                known[name] = max(known.get(name, 0), acked)
        for name, acked in known.items():
            sender = by_name[name]
            due = {number for number in range(acked) if sender.sent_at[number] > stay.joined_at}
            missing = due - set(stay.numbers_of(sender))
            assert not missing, (stay.name, name, sorted(missing))
            proved += len(due)
    return proved


def published_between(stays: Iterable[Stay], before: Stay, after: Stay) -> int:
    """Messages that the backplane took while a client was away."""
    return sum(before.closed_at < at < after.joined_at for sender in stays for at in sender.sent_at[: sender.acked])
