"""What the classes say, and which rule speaks of a room."""

from __future__ import annotations

import time
from typing import Any

import pytest

from realtime.grants import Grants
from realtime.permissions import Caller, OpenPermissions, Permissions, Rule, authenticated, holders_of, settled


def caller(user: str | None = "7", *permissions: str) -> Caller:
    """A client; a user has these Django permissions."""
    grants = Grants(30, read=lambda user, permission: permission in permissions)
    return Caller(user, "", "node.id", "127.0.0.1", "websocket", grants)


SOMEBODY, NOBODY = caller(), caller(None)


@pytest.mark.parametrize(
    ("pattern", "room", "matches"),
    [
        ("news", "news", True),
        ("news", "News", False),
        ("news", "news2", False),
        ("orders-*", "orders-7", True),
        ("orders-*", "orders-", True),
        ("orders-*", "orders", False),
        ("orders-*", "my-orders-7", False),
        ("*", "anything at all", True),
        ("*-7", "orders-7", True),
        ("*-7", "orders-77-", False),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("team-*-chat", "team-red-chat", True),
        ("team-*-chat", "team-chat", False),
        ("a*b*c", "a-b-c", True),
        ("a*b*c", "a-c-b", False),
        ("a*b*bc", "abc", False),
        ("a*b*bc", "abbc", True),
        ("a.c", "abc", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("?", "a", False),
        ("日本*", "日本語", True),
    ],
)
def test_patterns(pattern: str, room: str, matches: bool) -> None:
    """A star stands for any characters, and nothing else for anything but itself."""
    assert Rule(pattern).matches(room, "/") is matches


def test_no_pattern_takes_long() -> None:
    """Thirty stars against a name that almost matches: a backtracking matcher would never end."""
    began = time.process_time()
    assert not Rule("*a" * 30 + "b").matches("a" * 64, "/")
    assert time.process_time() - began < 1


def test_the_first_rule_decides() -> None:
    """A later one is not asked, whatever it would say."""

    class Mine(Permissions):
        rules = (Rule("a-*", join=True), Rule("a-b", join=False, publish=True), Rule("private-*", join=authenticated))

    mine = Mine()
    assert mine.may_join(NOBODY, "a-b", "/") is True
    assert mine.may_publish(SOMEBODY, "a-b", "/") is False
    assert mine.may_join(SOMEBODY, "private-x", "/") is True
    assert mine.may_join(NOBODY, "private-x", "/") is False


def test_a_rule_of_one_namespace() -> None:
    """It does not speak of the others; one without a namespace speaks of all."""

    class Mine(Permissions):
        rules = (Rule("private-*", join=True, namespace="/shop"), Rule("news", join=True))

    mine = Mine()
    assert mine.may_join(NOBODY, "private-x", "/shop") is True
    assert mine.may_join(SOMEBODY, "private-x", "/") is False
    assert mine.may_join(NOBODY, "news", "/") is mine.may_join(NOBODY, "news", "/shop") is True


def test_what_a_rule_does_not_grant_it_refuses() -> None:
    """To users, too."""

    class Mine(Permissions):
        rules = (Rule("news", join=True),)

    assert Mine().may_publish(SOMEBODY, "news", "/") is False


async def test_the_safe_class() -> None:
    """Users join and publish to public rooms and send private messages; anonymous clients nothing of the kind."""
    safe = Permissions()
    for who, answer in ((SOMEBODY, True), (NOBODY, False)):
        assert safe.may_connect(who, "/") is True
        assert safe.may_join(who, "lobby", "/") is answer
        assert safe.may_publish(who, "lobby", "/") is answer
        assert safe.may_send_private(who, "user:8") is answer
        for namespace in ("/", "/shop"):
            assert safe.may_join(who, "private-7", namespace) is False
            assert safe.may_publish(who, "private-7", namespace) is False
        assert await settled(safe.may_broadcast(who, "/")) is False
    assert await settled(safe.may_broadcast(caller("7", "realtime.broadcast"), "/")) is True
    assert await settled(safe.may_broadcast(caller(None, "realtime.broadcast"), "/")) is False


async def test_the_open_class() -> None:
    """Everybody, everything."""
    opened = OpenPermissions()
    assert opened.may_join(NOBODY, "private-7", "/") is opened.may_publish(NOBODY, "private-7", "/") is True
    assert opened.may_broadcast(NOBODY, "/") is opened.may_send_private(NOBODY, "user:8") is True


async def test_holders_of_a_permission() -> None:
    """A condition that asks Django."""
    condition = holders_of("shop.view_order")
    assert await condition(caller("7", "shop.view_order"), "orders-1") is True
    assert await condition(caller("7"), "orders-1") is False


@pytest.mark.parametrize(
    "values", [{"rooms": ""}, {"rooms": 7}, {"rooms": "a", "join": "yes"}, {"rooms": "a", "publish": None}]
)
def test_a_rule_of_a_wrong_shape(values: dict[str, Any]) -> None:
    """It is refused where it is written."""
    with pytest.raises(TypeError, match="Rule"):
        Rule(**values)
