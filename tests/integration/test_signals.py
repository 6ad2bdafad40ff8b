"""Signals for other Django code, from a client's life through the whole application."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from django.db import connection, connections
from django.dispatch import Signal
from pytest_django import DjangoDbBlocker, Settings

from realtime import api, signals
from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.instrument import Instrument
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime
from tests.support.databases import SQLITE, default_database

PUBLISHING = Path(__file__).resolve().parents[2] / "docs" / "publishing.md"


@pytest.fixture
async def process(settings: Settings) -> AsyncIterator[Runtime]:
    """This process with a running node on the memory layer and without a database."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "TRACKING_IS_ON": False}
    process = runtime()
    process.reload_settings()
    await process.start()
    yield process
    await process.stop()
    process.reload_settings()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Every signal with its arguments, in order; receivers are there for one test."""
    came: list[tuple[str, dict[str, Any]]] = []
    receivers: list[tuple[Signal, Callable[..., None]]] = []
    for name, signal in signals.SIGNALS.items():

        def hear(*, name: str = name, signal: Signal, sender: object, **arguments: Any) -> None:
            came.append((name, arguments))

        signal.connect(hear, weak=False)
        receivers.append((signal, hear))
    yield came
    for signal, receiver in receivers:
        signal.disconnect(receiver)


async def no_route(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


class Talker(WebsocketCommunicator):
    """A client of the JSON protocol."""

    def __init__(self) -> None:
        super().__init__(cast(Any, realtime_application(no_route)), "/ws/")
        self.id = ""

    async def __aenter__(self) -> Talker:
        assert (await self.connect())[0]
        self.id = (await self.read())["id"]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.disconnect()

    async def read(self) -> Any:
        return json.loads(await self.receive_from(5))

    async def ask(self, **command: object) -> Any:
        await self.send_to(json.dumps(command))
        return await self.read()


async def test_a_clients_life_is_told(process: Runtime, heard: list[tuple[str, dict[str, Any]]]) -> None:
    """In the order in which it happened, with everything that the documentation promises."""
    assert process.node is not None
    node = process.node.id
    async with Talker() as client:
        await client.ask(type="join", room="lobby")
        await client.ask(type="authenticate", token=issue_token(7))
        await client.ask(type="room", room="lobby", data={"n": [1]}, ref=1)
        await client.ask(type="broadcast", data="all", ref=2)
        await client.ask(type="private", to=client.id, data=None)
        await client.ask(type="leave", room="lobby")
        await client.ask(type="join", room="other")
        await api.adisconnect(connection=client.id, code=4321, reason="bye")
    await process.node.signals.stop(10)
    who = {"connection": client.id, "user": "7", "node": node}
    nobody = {**who, "user": None}
    said = {**who, "room": None, "to": None}
    ended = heard.pop()
    assert heard == [
        ("connected", {**nobody, "transport": "websocket", "remote_address": "", "path": "/ws/"}),
        ("joined", {**nobody, "room": "lobby"}),
        ("message_received", {**said, "kind": "room", "room": "lobby", "data": {"n": [1]}}),
        ("message_received", {**said, "kind": "broadcast", "data": "all"}),
        ("message_received", {**said, "kind": "private", "to": client.id, "data": None}),
        ("left", {**who, "room": "lobby"}),
        ("joined", {**who, "room": "other"}),
        ("left", {**who, "room": "other"}),
    ]
    assert 0 < ended[1].pop("seconds") < 60
    assert ended == ("disconnected", {**who, "code": 4321, "reason": "bye"})


async def test_a_node_that_stops_tells_what_waits(process: Runtime, heard: list[tuple[str, dict[str, Any]]]) -> None:
    """Before the process goes on to its end."""
    async with Talker() as client:
        for number in range(100):
            await client.ask(type="broadcast", data=number, ref=number)
    await process.stop()
    assert [said["data"] for name, said in heard if name == "message_received"] == list(range(100))
    assert heard[-1][0] == "disconnected"


async def test_what_is_refused_is_not_told(process: Runtime, heard: list[tuple[str, dict[str, Any]]]) -> None:
    """A message to a room that the client is not in, a recipient that is none, a second join."""
    async with Talker() as client:
        assert (await client.ask(type="room", room="lobby", data=1))["code"] == "not_joined"
        assert (await client.ask(type="private", to="nobody", data=1))["code"] == "unknown_recipient"
        for _ in range(2):
            await client.ask(type="join", room="lobby")
    assert process.node is not None
    await process.node.signals.stop(10)
    assert [name for name, _ in heard] == ["connected", "joined", "left", "disconnected"]


async def test_nothing_is_queued_while_nobody_listens(process: Runtime) -> None:
    """Not even a thread is there."""
    async with Talker() as client:
        await client.ask(type="join", room="lobby")
        await client.ask(type="room", room="lobby", data=1, ref=1)
    assert process.node is not None
    assert process.node.signals.pending == 0
    assert "realtime-signals" not in {thread.name for thread in threading.enumerate()}


async def test_a_stuck_receiver_holds_up_no_client(process: Runtime) -> None:
    """Commands are answered and messages delivered as if it were not there."""
    stuck, may_go = threading.Event(), threading.Event()

    def receiver(**arguments: Any) -> None:
        stuck.set()
        assert may_go.wait(30)

    signals.message_received.connect(receiver)
    try:
        async with Talker() as client:
            await client.ask(type="join", room="lobby")
            for number in range(50):
                echo = await client.ask(type="room", room="lobby", data=number, echo=True)
                assert echo["data"] == number
            assert await asyncio.to_thread(stuck.wait, 10)
            assert process.node is not None
            assert process.node.signals.pending == 49
    finally:
        may_go.set()
        signals.message_received.disconnect(receiver)


async def test_the_bound_is_a_setting(process: Runtime, settings: Settings) -> None:
    """SIGNALS_PENDING_MAX."""
    await process.stop()
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "TRACKING_IS_ON": False, "SIGNALS_PENDING_MAX": 1}
    process.reload_settings()
    await process.start()
    stuck, may_go = threading.Event(), threading.Event()

    def receiver(**arguments: Any) -> None:
        stuck.set()
        assert may_go.wait(30)

    signals.message_received.connect(receiver)
    try:
        async with Talker() as client:
            for number in range(5):
                await client.ask(type="broadcast", data=number, ref=number)
                assert await asyncio.to_thread(stuck.wait, 10)
            assert process.node is not None
            assert process.node.signals.pending == 1
    finally:
        may_go.set()
        signals.message_received.disconnect(receiver)


async def test_the_example_of_the_documentation_works(process: Runtime) -> None:
    """Word for word; a receiver may publish."""
    section = PUBLISHING.read_text().partition("\n## Signals\n")[2].partition("\n## ")[0]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)
    try:
        async with Talker() as client:
            assert (await client.ask(type="join", room="lobby"))["type"] == "joined"
            assert (await client.read())["data"] == {"text": "Welcome to the lobby"}
    finally:
        signals.joined.disconnect(names["welcome"])


async def test_every_signal_is_documented() -> None:
    """The table has all of them, in their order."""
    section = PUBLISHING.read_text().partition("\n## Signals\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(signals.SIGNALS)


@pytest.fixture
def database(tmp_path: Path, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database whose connections are kept for as long as they are good."""
    database = {**SQLITE, "NAME": str(tmp_path / "db.sqlite3"), "CONN_MAX_AGE": None}
    with django_db_blocker.unblock(), default_database(database):
        yield


@pytest.mark.usefixtures("database")
async def test_receivers_have_usable_database_connections() -> None:
    """One that a receiver left in a transaction is replaced before the next signal, and none is open at the end."""
    were_in_order: list[bool] = []
    wrappers: list[Any] = []

    def receiver(**arguments: Any) -> None:
        wrappers.append(connections["default"])
        were_in_order.append(connection.get_autocommit())
        connection.set_autocommit(False)

    signals.joined.connect(receiver)
    try:
        queue = signals.SignalQueue(10, Instrument())
        for _ in range(2):
            queue.put(signals.joined)
        await queue.stop(10)
    finally:
        signals.joined.disconnect(receiver)
    assert were_in_order == [True, True]
    assert wrappers[0] is wrappers[1]
    assert wrappers[0].connection is None
