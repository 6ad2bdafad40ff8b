"""Echoes: a message published into a group that must come back proves that the group reaches us."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection
from functools import partial
from itertools import count, islice
from typing import Any

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.stock_publisher import StockPublisher

PROBE_TYPE = "rt.probe"
AT_ONCE = 50  # probes under way together; a layer of capacity 100 must be able to hold them
FIRST_WAIT_SECONDS = 0.1  # then it is sent again: it may have been too early
PROVE_SECONDS = 1.9  # for AT_ONCE of them

Send = Callable[[dict[str, Any]], "asyncio.Future[int | None]"]


class Probes:
    """`echoed` is told every probe that arrives; those of other nodes mean nothing here."""

    def __init__(self, publisher: StockPublisher) -> None:
        self._publisher = publisher
        self._mine = secrets.token_hex(8)
        self._numbers = count()
        self._awaited: dict[str, asyncio.Future[None]] = {}

    async def prove(self, groups: Collection[str]) -> None:
        """Returns when an echo has come through each; raises BackplaneUnavailable otherwise."""
        rest = iter(groups)
        while chunk := list(islice(rest, AT_ONCE)):
            await self._prove([partial(self._publisher.group_send, group, is_urgent=True) for group in chunk])

    async def prove_channel(self, channel: str) -> None:
        """The same for a message to our own channel."""
        await self._prove([partial(self._publisher.send, channel, is_urgent=True)])

    def echoed(self, probe: Any) -> None:
        awaited = self._awaited.get(probe)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)

    async def _prove(self, sends: Collection[Send]) -> None:
        loop = asyncio.get_running_loop()
        waiting = {f"{self._mine}.{next(self._numbers)}": (loop.create_future(), send) for send in sends}
        self._awaited.update((probe, future) for probe, (future, _) in waiting.items())
        try:
            async with asyncio.timeout(PROVE_SECONDS):
                await self._until_echoed(waiting)
        except TimeoutError:
            silent = sum(1 for future, _ in waiting.values() if not future.done())
            raise BackplaneUnavailable(f"{silent} of {len(waiting)} probes did not come back") from None
        finally:
            for probe in waiting:
                del self._awaited[probe]

    async def _until_echoed(self, waiting: dict[str, tuple[asyncio.Future[None], Send]]) -> None:
        pause = FIRST_WAIT_SECONDS
        while missing := {probe: pair for probe, pair in waiting.items() if not pair[0].done()}:
            sent = [send({"type": PROBE_TYPE, "id": probe}) for probe, (_, send) in missing.items()]
            await asyncio.gather(*sent)
            await asyncio.wait([future for future, _ in missing.values()], timeout=pause)
            pause *= 2
