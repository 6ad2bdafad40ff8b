"""A client from handshake to close, through the ASGI application and any server's plain `send`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from pytest_django import Settings

from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.protocol import messages
from realtime.protocol.closing import IDLE
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime


async def inner(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(inner)


@pytest.fixture
async def process(settings: Settings) -> AsyncIterator[Runtime]:
    """This process with a running node on the memory layer and without a database."""
    settings.ALLOWED_HOSTS = ["chat.example"]
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.REALTIME = {
        "DEFAULTS": DEVELOPMENT,
        "TRACKING_IS_ON": False,
        "DRAIN_DEADLINE_SECONDS": 7.0,
        "COMMAND_MAX_BYTES": 2_000,
        "ROOMS_PER_CONNECTION_MAX": 3,
    }
    process = runtime()
    process.reload_settings()
    await process.start()
    yield process
    await process.stop()
    process.reload_settings()


class Client(WebsocketCommunicator):
    """A client of the JSON protocol; `async with` connects and takes the welcome."""

    def __init__(self, path: str = "/ws/", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(cast(Any, application), path, headers)
        self.welcome: Any = None

    async def __aenter__(self) -> Client:
        is_accepted, _ = await self.connect()
        assert is_accepted
        self.welcome = await self.read()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.disconnect()

    async def read(self) -> Any:
        return json.loads(await self.receive_from(timeout=5))

    async def say(self, **command: object) -> None:
        await self.send_to(text_data=json.dumps(command))

    async def ask(self, **command: object) -> Any:
        await self.say(**command)
        return await self.read()


async def test_the_welcome_says_who_and_where_the_client_is(process: Runtime) -> None:
    """And what it may do."""
    async with Client() as client:
        assert process.node is not None
        assert client.welcome["type"] == "welcome"
        assert client.welcome["node"] == process.node.id
        assert client.welcome["id"].startswith(process.node.id + ".")
        assert client.welcome["user"] is None
        assert client.welcome["limits"] == {
            "message_max_bytes": 1024 * 1024,
            "command_max_bytes": 2_000,
            "rooms_max": 3,
            "idle_timeout_seconds": 300,
        }


async def test_a_room_message_reaches_the_others_and_echoes_on_request(process: Runtime) -> None:
    """The sender is left out unless it asks."""
    async with Client() as alice, Client() as bob:
        for each in (alice, bob):
            assert (await each.ask(type="join", room="lobby"))["type"] == "joined"
        assert await alice.ask(type="room", room="lobby", data={"n": 1}, ref=1) == {"type": "ack", "ref": 1}
        expected = {"type": "room", "room": "lobby", "from": alice.welcome["id"]}
        assert await bob.read() == expected | {"data": {"n": 1}}
        await alice.say(type="room", room="lobby", data=2, echo=True)
        assert await alice.read() == expected | {"data": 2}


async def test_leaving_means_silence(process: Runtime) -> None:
    """A sentinel to another room arrives alone."""
    async with Client() as alice, Client() as bob:
        for room in ("a", "b"):
            await alice.ask(type="join", room=room)
            await bob.ask(type="join", room=room)
        assert await bob.ask(type="leave", room="a", ref="x") == {"type": "left", "room": "a", "ref": "x"}
        await alice.say(type="room", room="a", data="unheard")
        await alice.say(type="room", room="b", data="sentinel")
        assert (await bob.read())["data"] == "sentinel"


async def test_a_private_message_is_acknowledged_when_it_was_handed_over(process: Runtime) -> None:
    """And nobody else gets it; the id of nobody is refused at once."""
    async with Client() as alice, Client() as bob:
        assert await alice.ask(type="private", to=bob.welcome["id"], data=1, ref="r") == {"type": "ack", "ref": "r"}
        assert await bob.read() == {"type": "private", "from": alice.welcome["id"], "data": 1}
        for nobody in (bob.welcome["id"][:-1] + "!", bob.welcome["node"] + "." + "x" * 22, "gone-ab." + "x" * 22, "x"):
            answer = await alice.ask(type="private", to=nobody, data=1, ref="n")
            assert (answer["code"], answer["ref"]) == ("unknown_recipient", "n")


async def test_a_user_is_reached_on_all_their_connections(process: Runtime) -> None:
    """Once they said who they are; a wrong token or another user is refused."""
    async with Client() as phone, Client() as desk, Client() as other:
        for each in (phone, desk):
            answer = await each.ask(type="authenticate", token=issue_token(7, seconds=60), ref=1)
            assert answer == {"type": "authenticated", "user": "7", "expires_in": answer["expires_in"], "ref": 1}
            assert 55 <= answer["expires_in"] <= 60
        assert (await phone.ask(type="authenticate", token=issue_token(8)))["code"] == "unauthorized"
        assert (await other.ask(type="authenticate", token=issue_token(7, keys=["k" * 32])))["code"] == "unauthorized"
        assert await other.ask(type="private", to="user:7", data=1, ref="r") == {"type": "ack", "ref": "r"}
        assert (await phone.read())["data"] == (await desk.read())["data"] == 1


async def test_a_refused_command_leaves_the_connection_alive(process: Runtime) -> None:
    """Each with its code."""
    async with Client() as client:
        await client.send_to(bytes_data=b"\x00\x01")
        assert (await client.read())["code"] == "bad_message"
        await client.send_input({"type": "websocket.receive", "text": ""})
        assert (await client.read())["code"] == "bad_json"
        assert (await client.ask(type="room", room="lobby", data=1))["code"] == "not_joined"
        assert (await client.ask(type="leave", room="lobby"))["code"] == "not_joined"
        assert (await client.ask(type="broadcast", data="x" * 3_000))["code"] == "too_large"
        for number in range(3):
            await client.ask(type="join", room=f"r{number}")
        assert (await client.ask(type="join", room="r3"))["code"] == "too_many_rooms"
        assert (await client.ask(type="join", room="r1"))["type"] == "joined"
        assert await client.ask(type="ping", ref="alive") == {"type": "pong", "ref": "alive"}


async def test_a_handler_that_fails_is_logged_and_answered(
    process: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection lives on."""
    from realtime.handlers import HANDLERS

    async def fail(connection: object, command: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(cast(dict[Any, Any], HANDLERS), messages.Ping, fail)
    async with Client() as client:
        assert (await client.ask(type="ping", ref=1)) == {
            "type": "error",
            "code": "internal_error",
            "message": "The server failed on this command; the failure was logged.",
            "ref": 1,
        }
        assert "handler_failed" in caplog.text
        assert (await client.ask(type="join", room="a"))["type"] == "joined"


async def test_nothing_is_left_of_a_connection_that_ended(process: Runtime) -> None:
    """Whether it said goodbye or its application was cancelled."""
    assert process.node is not None
    hub = process.node.hub
    async with Client() as client:
        await client.ask(type="join", room="a", members=True)
        assert (len(hub), hub.room_count) == (1, 1)
    assert (len(hub), hub.room_count, process.node.members.watched_rooms) == (0, 0, [])
    crashing = await Client().__aenter__()
    await crashing.ask(type="join", room="a")
    crashing.future.cancel()
    with pytest.raises(BaseException):  # noqa: B017, PT011  whichever way the communicator reports it
        await crashing.future
    assert (len(hub), hub.room_count) == (0, 0)


async def test_nothing_is_left_of_what_a_client_asks_after_its_end(process: Runtime) -> None:
    """A client that the server has ended, and that asks for the members of a room, watches none."""
    assert process.node is not None
    async with Client() as client:
        process.node.hub.connections[client.welcome["id"]].evict(IDLE)
        await client.say(type="join", room="a", members=True)
    assert process.node.hub.room_count == 0
    assert process.node.members.watched_rooms == []


@pytest.mark.parametrize(
    ("origin", "is_accepted"),
    [
        (None, True),
        (b"http://chat.example", True),
        (b"HTTP://CHAT.EXAMPLE:80", True),
        (b"http://chat.example:8080", False),
        (b"http://evil.example", False),
        (b"http://chat.example.evil.example", False),
        (b"null", False),
        (b"http://[", False),
    ],
)
async def test_only_pages_of_the_same_host_may_connect(
    process: Runtime, origin: bytes | None, is_accepted: bool
) -> None:
    """A browser says where its page came from."""
    headers = [(b"host", b"chat.example")] + ([(b"origin", origin)] if origin else [])
    client = Client(headers=headers)
    assert (await client.connect())[0] is is_accepted
    await client.disconnect() if is_accepted else None


async def test_an_unknown_path_is_refused_without_a_traceback(process: Runtime) -> None:
    """As a client sees it: a handshake that failed."""
    for path in ("/", "/ws/x", "/other/"):
        assert (await Client(path).connect())[0] is False


async def test_a_draining_node_takes_nobody(process: Runtime) -> None:
    """And closes those it has with 1012."""
    assert process.node is not None
    async with Client() as client:
        process.begin_drain()
        assert process.node.state == "draining"
        assert (await Client().connect())[0] is False
        await process.close_connections()
        assert await client.receive_output(timeout=5) == {
            "type": "websocket.close",
            "code": 1012,
            "reason": "Service restart",
        }
