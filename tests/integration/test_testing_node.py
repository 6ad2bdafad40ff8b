"""The node that projects have for their tests: its settings, its clock, and the faults of its layer."""

from __future__ import annotations

import pytest
from django.test import override_settings

from realtime import api, commands
from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT, PRODUCTION
from realtime.exceptions import BackplaneUnavailable
from realtime.runtime import runtime
from realtime.testing import (
    FakeClock,
    FaultyLayer,
    RealtimeClient,
    RealtimeNode,
    Refused,
)

OPEN = {"DEFAULTS": DEVELOPMENT}


async def test_one_node_at_a_time() -> None:
    """And everything is as before when it is gone."""
    before = runtime()
    async with RealtimeNode():
        with pytest.raises(RuntimeError, match="already"):
            await RealtimeNode().__aenter__()
    assert runtime() is before
    with pytest.raises(RuntimeError, match="does not run"):
        RealtimeNode().id  # noqa: B018


async def test_settings_of_the_test() -> None:
    """They replace those of the project, and the project's stay for the rest."""
    with override_settings(REALTIME={**OPEN, "ROOMS_PER_CONNECTION_MAX": 1, "COMMAND_MAX_BYTES": 300}):
        async with RealtimeNode({"ROOMS_PER_CONNECTION_MAX": 2}), RealtimeClient() as client:
            limits = client.welcome["limits"]
            assert (limits["rooms_max"], limits["command_max_bytes"]) == (2, 300)


async def test_paths_with_a_prefix() -> None:
    """The client knows that of the project."""
    async with RealtimeNode({**OPEN, "PATH_PREFIX": "/live"}), RealtimeClient() as client:
        await client.ping()


async def test_a_token_ends_by_moving_the_clock() -> None:
    """At the end of its time of grace; one that is renewed does not."""
    node = RealtimeNode({**OPEN, "TOKEN_GRACE_SECONDS": 5})
    async with node, RealtimeClient(token=issue_token(7, seconds=60)) as client:
        await node.clock.advance(62)
        await client.authenticate(issue_token(7, seconds=600))
        await node.clock.advance(62)
        await client.ping()
        await node.clock.advance(600)
        assert (await client.closed()).code == 4001


async def test_whoever_must_say_who_it_is_and_does_not() -> None:
    """Is closed when its time is over, in production."""
    async with RealtimeNode({"DEFAULTS": PRODUCTION}) as node, RealtimeClient() as client:
        with pytest.raises(Refused, match="unauthorized"):
            await client.join("a")
        assert await client.received() == []
        await node.clock.advance(11)
        assert (await client.closed()).code == 4001


async def test_rates_are_waited_for_by_moving_the_clock() -> None:
    """Those of commands, the project's own among them, and those of joins."""

    async def touch(client: commands.Client) -> None: ...

    rates = {"COMMANDS_PER_SECOND": 1, "COMMANDS_BURST": 4, "JOINS_PER_SECOND": 0.5, "JOINS_BURST": 1}
    node = RealtimeNode({**OPEN, **rates})
    commands.registry.add("user.touch", touch)
    try:
        async with node, RealtimeClient() as client:
            await client.join("a")
            with pytest.raises(Refused, match="rate_limited"):
                await client.join("b")
            for _ in range(2):
                await client.ask("user.touch")
            await client.send("user.touch")
            answer = await client.next("error")
            assert answer["code"] == "rate_limited"
            assert 0 < answer["retry_after"] <= 1
            await node.clock.advance(2)
            await client.ask("user.touch")
            await client.join("b")
    finally:
        commands.registry.remove("user.touch")


async def test_silence_is_ended_by_moving_the_clock() -> None:
    """Who was active meanwhile stays."""
    node = RealtimeNode({**OPEN, "IDLE_TIMEOUT_SECONDS": 60})
    async with node, RealtimeClient() as silent, RealtimeClient() as active:
        await node.clock.advance(40)
        await active.ping()
        await node.clock.advance(40)
        assert await silent.closed() == (1001, "Connection timeout")
        await active.ping()


async def test_time_does_not_go_back() -> None:
    """Nor does it go on where nobody looks at it."""
    with pytest.raises(ValueError, match="back"):
        await FakeClock().advance(-1)
    with pytest.raises(RuntimeError, match="no node"):
        await FakeClock().advance(1)


# -- faults ----------------------------------------------------------------------------------------------------------


async def test_a_dropped_publication_is_missed() -> None:
    """By everybody, as nobody knows for whom it was; the next one arrives."""
    async with RealtimeNode(OPEN) as node, RealtimeClient() as alice, RealtimeClient() as ben:
        await alice.join("a")
        node.layer.drop_next()
        await api.apublish_room("a", "lost")
        await api.apublish_room("a", "kept")
        assert (await alice.next("room"))["data"] == "kept"
        for each in (alice, ben):
            assert await each.next("missed") == {"type": "missed", "rooms": None}


async def test_a_disconnected_layer_takes_nothing() -> None:
    """Clients are told ``unavailable``, Django code by an exception, and all of them ``missed`` when it is back."""
    async with RealtimeNode(OPEN) as node, RealtimeClient() as client:
        await client.join("a")
        node.layer.disconnect()
        assert not node.is_ready
        for command in (client.publish("a", 1), client.join("b")):
            with pytest.raises(Refused, match="unavailable"):
                await command
        with pytest.raises(BackplaneUnavailable):
            await api.apublish_room("a", 1)
        node.layer.reconnect()
        await node.ready()
        await client.next("missed")
        await client.publish("a", 2, echo=True)
        assert (await client.next("room"))["data"] == 2


async def test_a_node_may_start_without_its_layer() -> None:
    """Clients are let in, and it is ready when the layer is there."""
    layer = FaultyLayer()
    layer.disconnect()
    async with RealtimeNode(OPEN, layer=layer) as node, RealtimeClient() as client:
        with pytest.raises(Refused, match="unavailable"):
            await client.join("a")
        layer.reconnect()
        await node.ready()
        await client.join("a")


async def test_a_late_publication_arrives_in_its_turn() -> None:
    """Neither before its time, nor after one that was published later; its ack is as late."""
    async with RealtimeNode(OPEN) as node, RealtimeClient() as client:
        await client.join("a")
        node.layer.delay(1.5)
        await client.send("room", room="a", data="late", echo=True, ref="r")
        await client.ping()
        node.layer.delay(0)
        await client.send("room", room="a", data="later", echo=True)
        await client.ping()
        with pytest.raises(TimeoutError):
            await client.next(timeout=0.01)
        await node.clock.advance(1.5)
        assert [each["data"] for each in (await client.next("room"), await client.next("room"))] == ["late", "later"]
        assert await client.next("ack") == {"type": "ack", "ref": "r"}


async def test_what_is_too_late_is_unavailable_and_arrives_all_the_same() -> None:
    """As the protocol says of ``unavailable``."""
    async with RealtimeNode(OPEN) as node, RealtimeClient() as client:
        await client.join("a")
        node.layer.delay(10)
        await client.send("room", room="a", data="late", echo=True, ref="r")
        await client.ping()
        await node.clock.advance(3)
        assert (await client.next("error"))["code"] == "unavailable"
        await node.clock.advance(8)
        assert (await client.next("room"))["data"] == "late"
