"""Answers to what this process asked of nodes: gathered until all have answered, or until the time is over.

Who should answer is known from the asker's own table of live nodes, from the ``others`` that each answer names, and
from the number of subscribers that the backplane reports; whoever does not answer in time is named, or counted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable

from realtime.protocol.envelope import Answer


class Gathering:
    """The answers to one order. ``expected``: nodes that should answer, as far as the asker knows."""

    def __init__(self, expected: Iterable[str] = (), *, grows: bool) -> None:
        self.request = secrets.token_hex(8)
        self.answers: list[Answer] = []
        """Every part that came, refusals excepted."""
        self.refusals: dict[str, str] = {}
        self._expected = set(expected)
        self._grows = grows  # whether the nodes that an answer names should answer, too
        self._ended: set[str] = set()
        self._subscribers: int | None = None
        self._is_published = False  # answers may overtake the backplane's word that it took the order
        self._is_settled = False
        self._is_complete = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether everybody has answered who should."""
        return self._is_complete.is_set()

    @property
    def is_for_nobody(self) -> bool:
        """Whether the backplane knows that nobody got the order."""
        return self._subscribers == 0

    @property
    def answered(self) -> frozenset[str]:
        """The nodes that have answered to the end."""
        return frozenset(self._ended)

    @property
    def missing(self) -> int:
        """How many answers are not there, named or not."""
        unnamed = 0 if self._subscribers is None else self._subscribers - len(self._ended | self._expected)
        return len(self._expected - self._ended) + max(unnamed, 0)

    @property
    def silent(self) -> frozenset[str]:
        """The nodes that should have answered and have not, as far as their names are known."""
        return frozenset(self._expected - self._ended)

    def published(self, subscribers: int | None) -> None:
        """The backplane took the order, for so many; None where it does not say."""
        self._subscribers = subscribers
        self._is_published = True
        self._look()

    def expect(self, nodes: Iterable[str]) -> None:
        """These should have answered, too."""
        self._expected.update(nodes)

    def came(self, answer: Answer) -> None:
        """One part of a node's answer."""
        if answer.refusal:
            self.refusals[answer.node] = answer.refusal
        else:
            self.answers.append(answer)
        if answer.is_last:
            self._ended.add(answer.node)
        if self._grows:
            self._expected.update(answer.others)
            self._is_settled |= answer.is_settled
        self._look()

    async def wait(self, seconds: float) -> None:
        """Until all have answered, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_complete.wait()
        except TimeoutError:
            return

    def _look(self) -> None:
        if self.is_for_nobody and not self._grows:
            self._is_complete.set()
        if not self._is_published or self._expected - self._ended:
            return
        if self._subscribers is not None:
            is_complete = len(self._ended) >= self._subscribers
        else:
            # Nobody counts: for a group, trust a node that was there long enough to know the others.
            is_complete = self._is_settled if self._grows else bool(self._expected)
        if is_complete:
            self._is_complete.set()


class Inquiries:
    """The orders of one node that wait for answers."""

    def __init__(self) -> None:
        self._open: dict[str, Gathering] = {}

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, gathering: Gathering) -> None:
        """Answers to it may come."""
        self._open[gathering.request] = gathering

    def end(self, gathering: Gathering) -> None:
        """Nobody waits any more."""
        self._open.pop(gathering.request, None)

    def came(self, answer: Answer) -> None:
        """An answer arrived; one that is too late changes nothing."""
        gathering = self._open.get(answer.request)
        if gathering is not None:
            gathering.came(answer)
