"""The examples of docs/extending.md do what the page says: its modules are loaded, and its conversations held."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.core import signing

from realtime import commands
from realtime.conf import DEVELOPMENT, load
from realtime.routing import realtime_application
from realtime.signals import joined
from realtime.socketio.events import registry as events
from realtime.testing import RealtimeClient, RealtimeNode

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "extending.md").read_text()
BLOCK = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MODULE = re.compile(r"`(?P<path>\w+/\w+)\.py`[^\n]*:\n\n```python\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SPOKEN = re.compile(r"(?P<who>[a-z]+) (?P<way>[→←]) (?P<text>.+)")
ANYTHING = re.compile(r"<[a-z ]+>")

CONVERSATIONS = [found["text"] for found in BLOCK.finditer(PAGE) if found["kind"] == "conversation"]


def start(path: str, text: str) -> ModuleType:
    """A module of the page, where a dotted path finds it."""
    name = path.replace("/", ".")
    made = sys.modules[name] = ModuleType(name)
    exec(compile(text, f"{path}.py", "exec", dont_inherit=True), made.__dict__)
    return made


@pytest.fixture
def shop() -> Iterator[dict[str, ModuleType]]:
    """The modules of the page, and nothing of them afterwards."""
    sys.modules["shop"] = ModuleType("shop")
    namespaces = dict(events.namespaces)
    made = {found["path"]: start(found["path"], found["text"]) for found in MODULE.finditer(PAGE)}
    yield made
    joined.disconnect(made["shop/receivers"].greet)
    for name in ("profile.rename", "cursor.move"):
        commands.registry.remove(name)
    events.namespaces = namespaces
    for name in ["shop", *(path.replace("/", ".") for path in made)]:
        del sys.modules[name]


def test_every_example_is_run() -> None:
    """The page has no block that no test here knows."""
    kinds = [found["kind"] for found in BLOCK.finditer(PAGE)]
    assert len(list(MODULE.finditer(PAGE))) == 4
    assert kinds.count("python") == 5  # and one line of settings
    assert set(kinds) == {"python", "conversation"}


class Stage:
    """The people of one conversation, in the process of the test."""

    def __init__(self, exits: AsyncExitStack) -> None:
        self.exits = exits
        self.people: dict[str, RealtimeClient] = {}
        self.values: dict[str, str] = {}

    async def person(self, name: str, **options: Any) -> RealtimeClient:
        if name not in self.people:
            self.people[name] = await self.exits.enter_async_context(RealtimeClient(**options))
        return self.people[name]

    async def play(self, line: str) -> None:
        if spoken := SPOKEN.fullmatch(line):
            client = await self.person(spoken["who"])
            if spoken["way"] == "→":
                await client.send_text(self.fill(spoken["text"]))
            else:
                self.compare(json.loads(self.fill(spoken["text"])), await client.next())
        elif found := re.fullmatch(r"# (\w+)'s header x-api-key is a key of alice", line):
            client = await self.person(found[1], headers=[(b"x-api-key", self.values["<key of alice>"].encode())])
            client._kept.append(client.welcome)
        elif found := re.fullmatch(r"# (\w+) is user alice", line):
            await self.person(found[1], user=await User.objects.aget(username="alice"))
        elif found := re.fullmatch(r'# (\w+) is in "(.+)"', line):
            await (await self.person(found[1])).join(found[2])
        else:
            raise AssertionError(f"not understood: {line}")

    def fill(self, text: str) -> str:
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    def compare(self, expected: dict[str, Any], heard: dict[str, Any]) -> None:
        assert list(expected) == list(heard)
        for name, value in expected.items():
            is_open = isinstance(value, str) and ANYTHING.fullmatch(value)
            assert is_open or heard[name] == value, heard


@pytest.mark.parametrize("conversation", CONVERSATIONS, ids=range(len(CONVERSATIONS)))
@pytest.mark.django_db
def test_conversation(shop: dict[str, ModuleType], conversation: str) -> None:
    """Word for word."""
    alice = User.objects.create_user("alice")
    User.objects.create_user("ben")

    async def talk() -> None:
        settings = {"DEFAULTS": DEVELOPMENT, "AUTHENTICATION": "shop.keys.identify"}
        async with RealtimeNode(settings), AsyncExitStack() as exits:
            stage = Stage(exits)
            stage.values = {"<alice>": str(alice.pk), "<key of alice>": signing.dumps("alice", salt="api-key")}
            for line in conversation.splitlines():
                await stage.play(line)
            for client in stage.people.values():
                assert await client.received() == []

    async_to_sync(talk)()
    assert User.objects.get(pk=alice.pk).username == ("alicia" if "alicia" in conversation else "alice")


def test_the_setting_is_spelt_right() -> None:
    """As ``settings.REALTIME`` takes it."""
    line = next(found["text"] for found in BLOCK.finditer(PAGE) if found["text"].startswith("REALTIME"))
    made: dict[str, Any] = {}
    exec(line, made)
    assert load(made["REALTIME"]).authentication == "shop.keys.identify"


async def test_events_of_socketio(shop: dict[str, ModuleType]) -> None:
    """As an official client would speak."""
    async with RealtimeNode({"DEFAULTS": DEVELOPMENT}):
        answer = await emit("/shop", '["order",7]', room="kitchen")
        assert answer == ['42/shop,["ordered",{"number":7}]', '43/shop,1[{"accepted":true}]']


async def emit(namespace: str, event: str, *, room: str) -> list[str]:
    """Connect two members of a room, let the first emit; what the second hears of it, and the acknowledgement."""
    first, second = [await connected(namespace, room) for _ in range(2)]
    assert "joined" in str(await first.receive_from(timeout=5))  # the second, as everybody in the room is told
    await first.send_to(f"42{namespace},1{event}")
    heard = [str(await each.receive_from(timeout=5)) for each in (second, first)]
    for each in (first, second):
        await each.disconnect()
    return heard


async def connected(namespace: str, room: str) -> WebsocketCommunicator:
    async def nothing(scope: Any, receive: Any, send: Any) -> None: ...

    application: Any = realtime_application(nothing)
    client = WebsocketCommunicator(application, "/socket.io/?EIO=4&transport=websocket")
    assert (await client.connect(timeout=5))[0]
    await client.receive_from(timeout=5)  # the handshake of Engine.IO
    await client.send_to(f"40{namespace},{{}}")
    assert str(await client.receive_from(timeout=5)).startswith(f"40{namespace},")
    await client.send_to(f'42{namespace},0["join","{room}"]')
    assert '"ok":true' in str(await client.receive_from(timeout=5))
    return client


def test_the_example_of_the_page_about_socketio(shop: dict[str, ModuleType]) -> None:
    """Registers as it says: a condition for connecting, and an event."""
    page = (DOCS / "socketio.md").read_text()
    text = next(found["text"] for found in BLOCK.finditer(page) if found["kind"] == "python")
    made = start("shop/events_of_socketio", text)
    assert events.namespaces["/shop"].connecting == [made.let_in]
    assert events.namespaces["/shop"].events["order"] is made.order
    del sys.modules["shop.events_of_socketio"]
