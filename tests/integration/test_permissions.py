"""What clients may do, through the ASGI application: with the safe class, and with a project's own."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from pytest_django import Settings

from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.instrument import Instrument
from realtime.permissions import Caller, Forbidden, Permissions, Rule, in_thread
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime

DEADLINE = 10.0
SECRET = "a-key-of-this-test-alone-0123456789abcdef"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


class ClubPermissions(Permissions):
    """Of the tests."""

    rules = (Rule("private-user-*", join=lambda caller, room: room == f"private-user-{caller.user}"),)
    seen: list[Caller] = []  # noqa: RUF012

    def may_connect(self, caller: Caller, namespace: str) -> bool:
        self.seen.append(caller)
        if caller.address == "192.0.2.1":
            raise ZeroDivisionError
        return caller.user != "13" and caller.address != "198.51.100.9"

    def may_publish(self, caller: Caller, room: str, namespace: str) -> bool:
        raise Forbidden("Readers only.")

    @in_thread
    def may_broadcast(self, caller: Caller, namespace: str) -> bool:
        return caller.get_user().get_username() == "ann"


class Noting(Instrument):
    def __init__(self) -> None:
        self.refused: list[str] = []

    def connection_refused(self, reason: str) -> None:
        self.refused.append(reason)

    def command_refused(self, code: str) -> None:
        self.refused.append(code)


Start = Callable[..., Any]


@pytest.fixture
async def start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts a node in this process that asks the safe class, on the memory layer. Clients may be anonymous."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.ALLOWED_HOSTS = ["chat.example"]
    process = runtime()
    monkeypatch.setattr(process, "instrument", Noting())

    async def started(**values: object) -> Runtime:
        settings.REALTIME = {
            "DEFAULTS": DEVELOPMENT, "PERMISSIONS": "realtime.permissions.Permissions", "TRACKING_IS_ON": False,
            "TOKEN_KEYS": [SECRET], "TRUSTED_PROXIES": ["10.0.0.1"], **values,
        }  # fmt: skip
        process.reload_settings()
        await process.start()
        return process

    yield started
    await process.stop()
    process.reload_settings()


class Client(WebsocketCommunicator):
    """A client of the JSON protocol; with ``user`` it says who it is."""

    def __init__(self, user: object = None, *, address: str = "203.0.113.9", **headers: str) -> None:
        application = realtime_application(inner)
        fields = [(name.encode(), value.encode("latin1")) for name, value in headers.items()]
        super().__init__(cast(Any, application), "/ws/", fields)
        self.scope["client"] = (address, 4711)
        self.user = user
        self.id = ""

    async def __aenter__(self) -> Client:
        is_accepted, _ = await self.connect()
        assert is_accepted
        self.id = (await self.read())["id"]
        if self.user is not None:
            assert (await self.authenticate())["type"] == "authenticated"
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.disconnect()

    async def authenticate(self) -> Any:
        return await self.ask(type="authenticate", token=issue_token(self.user, keys=[SECRET]))

    async def read(self) -> Any:
        return json.loads(await self.receive_from(timeout=DEADLINE))

    async def ask(self, **command: object) -> Any:
        await self.send_to(text_data=json.dumps({"ref": 1, **command}))
        reply = await self.read()
        assert reply.pop("ref") == 1
        return reply

    async def code(self, **command: object) -> str:
        """The error code of a command, or the type of its reply."""
        reply = await self.ask(**command)
        return str(reply.get("code", reply["type"]))


async def test_anonymous_clients_may_do_nothing(start: Start) -> None:
    """They are connected, and refused whatever others would hear of; what they cannot know stays unknown."""
    process = await start()
    async with Client() as client:
        assert await client.code(type="ping") == "pong"
        assert await client.code(type="join", room="lobby") == "forbidden"
        assert await client.code(type="join", room="lobby", members=True) == "forbidden"
        assert await client.code(type="room", room="lobby", data=1) == "not_joined"
        assert await client.code(type="broadcast", data=1) == "forbidden"
        assert await client.code(type="private", to=client.id, data=1) == "forbidden"
        assert await client.code(type="private", to="user:7", data=1) == "forbidden"
        assert await client.code(type="ping") == "pong"
        assert process.node.hub.room_count == 0
        assert process.instrument.refused == ["forbidden", "forbidden", "not_joined", *["forbidden"] * 3]


async def test_users_may_use_public_rooms(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """And send private messages; private rooms need a rule, and the log says who was refused."""
    await start()
    async with Client(7) as client:
        assert await client.code(type="join", room="lobby", members=True) == "joined"
        assert await client.code(type="room", room="lobby", data=1) == "ack"
        assert await client.code(type="private", to="user:8", data=1) in ("ack", "unknown_recipient")
        assert await client.code(type="join", room="private-lobby") == "forbidden"
        assert await client.code(type="join", room="Private-lobby") == "joined"
        line = f"action=may_join what='private-lobby' user='7' connection={client.id} address=203.0.113.9"
        assert line in caplog.text


async def test_who_says_who_it_is_is_another_one_from_then_on(start: Start) -> None:
    """What was refused before is asked again of the new identity."""
    await start()
    async with Client() as client:
        assert await client.code(type="join", room="lobby") == "forbidden"
        client.user = 7
        await client.authenticate()
        assert await client.code(type="join", room="lobby") == "joined"


async def test_refusals_are_logged_within_a_bound(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A flood of them is a few lines, and all of them are counted."""
    process = await start()
    async with Client() as client:
        with caplog.at_level(logging.INFO, logger="realtime.judge"):
            for number in range(200):
                assert await client.code(type="join", room=f"r{number}") == "forbidden"
        assert 3 <= sum("permission_refused" in line for line in caplog.text.splitlines()) < 100
        assert process.instrument.refused == ["forbidden"] * 200


@pytest.fixture
def users(sqlite_file: Path) -> dict[str, Any]:
    """Ann may broadcast, Ben may not, Cleo may but is not active, Root is a superuser."""
    from django.contrib.auth.models import Permission, User

    may = Permission.objects.get(codename="broadcast", content_type__app_label="realtime")
    made = {name: User.objects.create_user(name) for name in ("ann", "ben", "cleo")}
    made["root"] = User.objects.create_superuser("root")
    for name in ("ann", "cleo"):
        made[name].user_permissions.add(may)
    made["cleo"].is_active = False
    made["cleo"].save()
    return made


@pytest.mark.parametrize(
    ("name", "answer"), [("ann", "ack"), ("ben", "forbidden"), ("cleo", "forbidden"), ("root", "ack")]
)
async def test_broadcast_needs_a_permission(start: Start, users: dict[str, Any], name: str, answer: str) -> None:
    """Of Django, given to an active user."""
    await start()
    async with Client(users[name].pk) as client:
        assert await client.code(type="broadcast", data=1) == answer


@pytest.mark.parametrize("user", ["4711", "nobody@example.com", "0b1e0d1e-7c3a-4d0e-9f53-2f1b4d0c9a11", "9" * 100])
async def test_a_user_that_the_database_does_not_know_has_no_permission(
    start: Start, users: dict[str, Any], user: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Tokens may name anybody; that is no failure."""
    await start()
    async with Client(user) as client:
        assert await client.code(type="broadcast", data=1) == "forbidden"
    assert "permissions_failed" not in caplog.text


async def test_a_class_of_the_project(start: Start, users: dict[str, Any]) -> None:
    """Rules by pattern, a reason of its own, and a method that reads the database in a thread."""
    await start(PERMISSIONS=f"{__name__}.ClubPermissions")
    ann, ben = users["ann"].pk, users["ben"].pk
    async with Client(ann) as client:
        assert await client.code(type="join", room=f"private-user-{ann}") == "joined"
        assert await client.code(type="join", room=f"private-user-{ben}") == "forbidden"
        refusal = await client.ask(type="room", room=f"private-user-{ann}", data=1)
        assert refusal == {"type": "error", "code": "forbidden", "message": "Readers only."}
        assert await client.code(type="broadcast", data=1) == "ack"
    async with Client(ben) as client:
        assert await client.code(type="broadcast", data=1) == "forbidden"


async def test_who_may_be_connected(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Asked in the handshake, with the address that a trusted proxy says, and again of whoever says who it is."""
    ClubPermissions.seen.clear()
    process = await start(PERMISSIONS=f"{__name__}.ClubPermissions", CONNECTIONS_MAX=1)
    for address, headers, reason in (
        ("198.51.100.9", {}, "forbidden"),
        ("10.0.0.1", {"x-forwarded-for": "127.0.0.1, 198.51.100.9"}, "forbidden"),
        ("192.0.2.1", {}, "internal_error"),
    ):
        assert (await Client(address=address, **headers).connect())[0] is False
        assert process.instrument.refused.pop() == reason
    assert "ZeroDivisionError" in caplog.text
    # Their places are free again; and whoever is no trusted proxy cannot speak for another address.
    async with Client(**{"x-forwarded-for": "198.51.100.9"}) as client:
        client.user = 13
        assert (await client.authenticate())["code"] == "forbidden"
        client.user = 12
        assert (await client.authenticate())["user"] == "12"
        assert [(each.user, each.address, each.connection) for each in ClubPermissions.seen[-3:]] == [
            (None, "203.0.113.9", ""),
            ("13", "203.0.113.9", client.id),
            ("12", "203.0.113.9", client.id),
        ]
