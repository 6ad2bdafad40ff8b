"""Assertions about what Django code publishes: no node, no backplane."""

from __future__ import annotations

import datetime
import threading
from functools import partial
from typing import Any

import pytest
from django.db import transaction
from django.test import SimpleTestCase, TestCase

from realtime import api
from realtime.conf import DEVELOPMENT
from realtime.protocol.errors import BadRoom
from realtime.testing import (
    Publication,
    RealtimeClient,
    RealtimeNode,
    assert_not_published,
    assert_published,
    published,
)


class AfterCommit(TestCase):
    """In a transaction that never ends."""

    def pay(self) -> None:
        with transaction.atomic():
            transaction.on_commit(partial(api.publish_room, "orders", {"id": 17}))

    def test_what_is_published_after_the_commit(self) -> None:
        """With Django's own way to run what waits for it."""
        with assert_published("orders", {"id": 17}), self.captureOnCommitCallbacks(execute=True):
            self.pay()

    def test_nothing_is_published_before(self) -> None:
        """As the transaction has not been committed."""
        with assert_not_published():
            self.pay()


class Published(SimpleTestCase):
    """Without a database."""

    def test_everything_in_its_order(self) -> None:
        """As clients would get it: JSON."""
        with published() as found:
            api.publish_room("orders", {"at": datetime.date(2026, 1, 2), "ids": (1, 2)})
            api.publish_private("user:7", None)
            api.publish_broadcast("all")
            assert len(found) == 3
        api_data = {"at": "2026-01-02", "ids": [1, 2]}
        assert found == [
            Publication("orders", None, api_data),
            Publication(None, "user:7", None),
            Publication(None, None, "all"),
        ]

    async def test_in_coroutines(self) -> None:
        """The functions with an ``a`` in front."""
        with published("orders") as found, assert_published(to="user:7", data=1):
            await api.apublish_room("orders", 1)
            await api.apublish_room("bills", 1)
            await api.apublish_private("user:7", 1)
        assert found == [Publication("orders", None, 1)]

    def test_in_threads(self) -> None:
        """Whoever publishes."""
        with assert_published("orders", 1):
            thread = threading.Thread(target=api.publish_room, args=("orders", 1))
            thread.start()
            thread.join()

    def test_python_is_compared_with_what_became_of_it(self) -> None:
        """A date is equal to its text, a tuple to its list; exactly, not in part."""
        day = datetime.date(2026, 1, 2)
        with assert_published("orders", {"at": day}):
            api.publish_room("orders", {"at": day})
        with assert_published(data={"ids": (1,)}):
            api.publish_broadcast({"ids": [1]})
        with pytest.raises(AssertionError), assert_published("orders", {"at": day}):
            api.publish_room("orders", {"at": day, "id": 1})

    def test_a_failure_says_what_was_published_instead(self) -> None:
        """Or that nothing was."""
        with pytest.raises(AssertionError) as nothing, assert_published("orders"):
            pass
        assert str(nothing.value) == "not published to the room 'orders': anything\nNothing was published."
        with pytest.raises(AssertionError) as other, assert_published(to="user:7", data={"n": 1}):
            self.publish_both()
        assert str(other.value) == (
            "not published to 'user:7': {'n': 1}\nWhat was published:\n  to 'user:7': {'n': 2}\n  to everybody: 3"
        )

    def publish_both(self) -> None:
        api.publish_private("user:7", {"n": 2})
        api.publish_broadcast(3)

    def test_how_often(self) -> None:
        """Exactly so often, if that is said."""
        with assert_published("orders", times=2), assert_published("orders"), assert_published("bills", times=0):
            api.publish_room("orders", 1)
            api.publish_room("orders", 2)
        with pytest.raises(AssertionError, match="2 times, but 1 times"), assert_published("orders", times=2):
            api.publish_room("orders", 1)

    def test_what_should_not_be(self) -> None:
        """Nothing at all, nothing for somebody, or not this."""
        with assert_not_published("bills"), assert_not_published("orders", 2), assert_not_published(to="user:7"):
            api.publish_room("orders", 1)
        for arguments in ((), ("orders",), ("orders", 1)):
            with pytest.raises(AssertionError, match="to the room 'orders': 1"), assert_not_published(*arguments):
                api.publish_room("orders", 1)

    def test_a_failure_within_is_the_failure(self) -> None:
        """And the assertion does not hide it."""
        with pytest.raises(ZeroDivisionError), assert_published("orders"):
            raise ZeroDivisionError
        with pytest.raises(BadRoom), assert_published("orders"):
            api.publish_room("", 1)

    async def test_clients_get_it_where_a_node_runs(self) -> None:
        """What clients publish themselves is not Django's."""
        options: dict[str, Any] = {"DEFAULTS": DEVELOPMENT}
        async with RealtimeNode(options), RealtimeClient() as client:
            await client.join("orders")
            with assert_published("orders", 1, times=1), assert_not_published("orders", 2):
                await api.apublish_room("orders", 1)
                await client.publish("orders", 2, echo=True)
            assert [each["data"] for each in await client.received()] == [1, 2]
