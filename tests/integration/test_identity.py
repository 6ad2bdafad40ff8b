"""Who a client is, from the handshake to the end of its credential, through the ASGI application."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import jwt
import pytest
from channels.testing import WebsocketCommunicator
from pytest_django import Settings

from realtime.auth import issue_token
from realtime.protocol.names import USER_PREFIX
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime

KEY = "a-key-of-this-test-alone-0123456789abcdef"
EXPIRING_SECONDS = 1.0
Start = Callable[..., Any]


async def inner(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(inner)


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Start]:
    """Starts a node with the defaults of production, on the memory layer and without a database."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    process = runtime()

    async def started(**own: Any) -> Runtime:
        defaults = {
            "TRACKING_IS_ON": False,
            "TOKEN_KEYS": [KEY],
            "TOKEN_USERS_ARE_CHECKED": False,
            "PERMISSIONS": "realtime.permissions.OpenPermissions",
        }
        settings.REALTIME = {**defaults, **own}
        process.reload_settings()
        await process.start()
        return process

    yield started
    await process.stop()
    process.reload_settings()


class Client(WebsocketCommunicator):
    """A client of the JSON protocol."""

    def __init__(
        self,
        path: str = "/ws/",
        headers: list[tuple[bytes, bytes]] | None = None,
        subprotocols: list[str] | None = None,
    ) -> None:
        super().__init__(cast(Any, application), path, headers, subprotocols)
        self.chosen: str | None = None

    async def open(self) -> Any:
        """The welcome."""
        is_accepted, chosen = await self.connect(timeout=5)
        assert is_accepted
        assert chosen is None or isinstance(chosen, str)
        self.chosen = chosen
        return await self.read()

    async def read(self) -> Any:
        return json.loads(await self.receive_from(timeout=8))

    async def ask(self, **command: object) -> Any:
        await self.send_to(text_data=json.dumps(command))
        return await self.read()

    async def closed(self) -> int:
        """The code that it is closed with."""
        return int((await self.receive_output(timeout=8))["code"])


def expiring(user: str = "7", seconds: float = EXPIRING_SECONDS) -> str:
    return jwt.encode({"sub": user, "exp": time.time() + seconds}, KEY, algorithm="HS256")


async def test_nobody_may_only_say_who_it_is(start: Start) -> None:
    """Every other command is `unauthorized`, nothing is delivered, and after `authenticate` all of it works."""
    await start()
    nobody, somebody = Client(), Client()
    own = await nobody.open()
    assert own["user"] is None
    await somebody.open()
    assert (await somebody.ask(type="authenticate", token=issue_token(8)))["user"] == "8"
    for command in (
        {"type": "join", "room": "lobby"},
        {"type": "leave", "room": "lobby"},
        {"type": "broadcast", "data": 1},
        {"type": "room", "room": "lobby", "data": 1},
        {"type": "private", "to": f"{USER_PREFIX}8", "data": 1},
    ):
        answer = await nobody.ask(**command, ref=1)
        assert (answer["type"], answer["code"], answer["ref"]) == ("error", "unauthorized", 1), command
    assert (await nobody.ask(type="ping"))["type"] == "pong"
    assert (await somebody.ask(type="broadcast", data="unheard", ref=1))["type"] == "ack"
    assert (await somebody.ask(type="private", to=own["id"], data="unheard", ref=2))["code"] == "unknown_recipient"
    assert (await nobody.ask(type="authenticate", token=issue_token(7)))["type"] == "authenticated"
    assert (await somebody.ask(type="broadcast", data="heard", ref=3))["type"] == "ack"
    assert (await nobody.read())["data"] == "heard"
    assert (await nobody.ask(type="join", room="lobby"))["type"] == "joined"
    for client in (nobody, somebody):
        await client.disconnect()


async def test_nobody_is_closed_in_time(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """With 4001; who has said who it is stays."""
    process = await start(AUTHENTICATE_SECONDS=0.5)
    silent, speaking = Client(), Client()
    await silent.open()
    await speaking.open()
    await speaking.ask(type="authenticate", token=issue_token(7))
    with caplog.at_level(logging.INFO):
        assert await silent.closed() == 4001
    assert "cause=not_authenticated" in caplog.text
    assert (await speaking.ask(type="ping"))["type"] == "pong"
    assert process.node is not None
    assert len(process.node.hub) == 1
    await speaking.disconnect()


async def test_an_expired_token_ends_its_connection(start: Start) -> None:
    """After the grace, in which it may be renewed; the renewed one outlives it."""
    await start(TOKEN_GRACE_SECONDS=0.3, TOKEN_LEEWAY_SECONDS=0)
    stale, renewed = Client(), Client()
    for client in (stale, renewed):
        await client.open()
        assert (await client.ask(type="authenticate", token=expiring()))["type"] == "authenticated"
    assert (await renewed.ask(type="authenticate", token=issue_token(7)))["expires_in"] > 3_000
    assert await stale.closed() == 4001
    assert (await renewed.ask(type="ping"))["type"] == "pong"
    await renewed.disconnect()


async def test_another_user_is_refused_and_the_connection_lives(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """It is still the first one's."""
    process = await start()
    client = Client()
    await client.open()
    await client.ask(type="authenticate", token=issue_token(7))
    answer = await client.ask(type="authenticate", token=issue_token(8))
    assert (answer["code"], answer["message"]) == ("unauthorized", "This connection belongs to another user.")
    assert (await client.ask(type="ping"))["type"] == "pong"
    assert process.node is not None
    assert set(process.node.hub.users) == {"7"}
    assert "authentication_refused" in caplog.text
    assert "reason=other_user" in caplog.text
    await client.disconnect()


async def test_a_token_in_a_subprotocol(start: Start) -> None:
    """The welcome names its user, and the answer is `realtime` alone."""
    await start()
    client = Client(subprotocols=["realtime", f"token.{issue_token(7)}"])
    assert (await client.open())["user"] == "7"
    assert client.chosen == "realtime"
    assert (await client.ask(type="join", room="lobby"))["type"] == "joined"
    await client.disconnect()


@pytest.mark.parametrize("offered", [[], ["chat"], ["realtime"]])
async def test_subprotocols_without_a_token(start: Start, offered: list[str]) -> None:
    """Ours is answered when it is asked for, another one is not."""
    await start()
    client = Client(subprotocols=offered)
    assert (await client.open())["user"] is None
    assert client.chosen == ("realtime" if offered == ["realtime"] else None)
    await client.disconnect()


async def test_a_bad_token_in_a_subprotocol(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The connection is opened and closed with 4001 without a welcome; the log has no token."""
    process = await start()
    token = issue_token(7, keys=["x" * 40])
    client = Client(subprotocols=["realtime", f"token.{token}"])
    with caplog.at_level(logging.DEBUG):
        assert await client.connect(timeout=5) == (True, "realtime")
        assert await client.closed() == 4001
    assert "authentication_refused" in caplog.text
    assert "reason=signature" in caplog.text
    assert not any(part in caplog.text for part in token.split("."))
    assert process.node is not None
    assert len(process.node.hub) == 0
    assert process.node.occupancy._arriving in (0, 1)
    await client.send_input({"type": "websocket.disconnect", "code": 4001})
    await client.wait(timeout=5)
    assert process.node.occupancy._arriving == 0


async def test_a_token_in_the_url_is_not_taken(start: Start) -> None:
    """Unless a setting names its field."""
    await start()
    client = Client(f"/ws/?token={issue_token(7)}")
    assert (await client.open())["user"] is None
    await client.disconnect()


async def test_a_token_in_the_url_where_it_is_wanted(start: Start) -> None:
    """In the field that the setting names."""
    await start(TOKEN_QUERY_PARAMETER="access")
    client = Client(f"/ws/?access={issue_token(7)}")
    assert (await client.open())["user"] == "7"
    await client.disconnect()


async def test_the_origin_is_looked_at_first(start: Start, settings: Settings) -> None:
    """A page that may not connect causes no look at sessions and users; one that may does."""
    process = await start()
    settings.ALLOWED_HOSTS = ["chat.example"]
    settings.SESSION_ENGINE = "tests.integration.no_sessions"
    cookie = (b"cookie", b"sessionid=abcdefghijklmnop")
    evil = [(b"host", b"chat.example"), (b"origin", b"http://evil.example"), cookie]
    assert (await Client(headers=evil).connect(timeout=5))[0] is False
    own = [(b"host", b"chat.example"), (b"origin", b"http://chat.example"), cookie]
    assert (await Client(headers=own).connect(timeout=5))[0] is False
    assert process.node is not None
    from tests.integration import no_sessions

    assert no_sessions.asked == ["abcdefghijklmnop"]


async def test_a_full_node_asks_nobody(start: Start, settings: Settings) -> None:
    """The place comes before the identity."""
    from tests.integration import no_sessions

    no_sessions.asked.clear()
    await start(CONNECTIONS_MAX=1, ANONYMOUS_IS_ALLOWED=True)
    first = Client()
    await first.open()
    settings.SESSION_ENGINE = "tests.integration.no_sessions"
    assert (await Client(headers=[(b"cookie", b"sessionid=abcdefghijklmnop")]).connect(timeout=5))[0] is False
    assert no_sessions.asked == []
    await first.disconnect()


async def test_sessions_that_cannot_be_read(start: Start, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """The handshake is refused, without a traceback, and its place is free again."""
    process = await start()
    settings.SESSION_ENGINE = "tests.integration.no_sessions"
    assert (await Client(headers=[(b"cookie", b"sessionid=abcdefghijklmnop")]).connect(timeout=5))[0] is False
    assert "identity_unavailable" in caplog.text
    assert "Traceback" not in caplog.text
    assert process.node is not None
    assert process.node.occupancy._arriving == 0
