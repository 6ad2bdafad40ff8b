"""Which groups this node is in, and for how many local reasons: once per group, however many members it has here."""

from __future__ import annotations

import asyncio

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backplane import Backplane
from realtime.tasks import TaskGroup


class _Subscription:
    __slots__ = ("holders", "is_confirmed", "lock")

    def __init__(self) -> None:
        self.holders = 0
        self.is_confirmed = False
        self.lock = asyncio.Lock()


class Subscriptions:
    """Counts holders of groups; subscribes with the first, unsubscribes after the last.

    Subscribing and unsubscribing the same group never overlap, so that a quick leave and join ends subscribed.
    """

    def __init__(self, backplane: Backplane, tasks: TaskGroup) -> None:
        self._backplane = backplane
        self._tasks = tasks
        self._subscriptions: dict[str, _Subscription] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    async def acquire(self, group: str, *, keep_on_failure: bool = False) -> None:
        """Hold ``group``; returns when the backplane confirmed the subscription.

        Raises BackplaneUnavailable, and then does not hold it unless ``keep_on_failure``: the backplane then subscribes
        as soon as it can.
        """
        subscription = self._subscriptions.get(group)
        if subscription is None:
            subscription = self._subscriptions[group] = _Subscription()
        subscription.holders += 1
        if subscription.is_confirmed:
            return
        try:
            async with subscription.lock:
                if not subscription.is_confirmed:
                    await self._backplane.subscribe([group])
                    subscription.is_confirmed = True
        except BackplaneUnavailable:
            if not keep_on_failure:
                self.release(group)
            raise
        except BaseException:
            self.release(group)
            raise

    def release(self, group: str) -> None:
        """Let go of ``group``; the node unsubscribes in the background when nobody holds it."""
        subscription = self._subscriptions[group]
        subscription.holders -= 1
        if subscription.holders == 0:
            self._tasks.start(f"unsubscribe {group}", self._unsubscribe(group, subscription))

    async def _unsubscribe(self, group: str, subscription: _Subscription) -> None:
        async with subscription.lock:
            if subscription.holders or self._subscriptions.get(group) is not subscription:
                return
            del self._subscriptions[group]
            subscription.is_confirmed = False
            try:
                await self._backplane.unsubscribe([group])
            except BackplaneUnavailable:
                return  # the backplane has forgotten it: it will not be subscribed again
