"""The clients that projects have for their tests: in a transaction, without a database, beside Channels' own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.contrib.auth.models import Permission, User
from django.core.asgi import get_asgi_application
from django.db import connection, transaction
from django.test import AsyncClient, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.urls import path

from realtime import api, commands
from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.models import Connection
from realtime.routing import realtime_application
from realtime.runtime import runtime
from realtime.testing import (
    Closed,
    ConnectionDenied,
    RealtimeClient,
    RealtimeNode,
    Refused,
)

OPEN = {"DEFAULTS": DEVELOPMENT}


def names_of_users() -> list[str]:
    return list(User.objects.order_by("pk").values_list("username", flat=True))


class InATransaction(TestCase):
    """Django's TestCase with coroutines."""

    alice: User
    ben: User

    @classmethod
    def setUpTestData(cls) -> None:
        cls.alice = User.objects.create_user("alice")
        cls.ben = User.objects.create_user("ben")

    async def test_a_client_is_the_user_of_the_transaction(self) -> None:
        """Its session and its user are read where they are: in rows that nobody has committed."""
        async with RealtimeClient(user=self.alice) as client:
            assert client.welcome["user"] == str(self.alice.pk)
            assert (await client.join("orders"))["type"] == "joined"
        assert await Connection.objects.acount() == 0  # no rows of nodes and clients are written

    async def test_a_client_of_djangos_own(self) -> None:
        """Who has logged in by a test client of Django is the same here."""
        browser = AsyncClient()
        await browser.aforce_login(self.ben)
        async with RealtimeClient(cookies=browser.cookies) as client:
            assert client.welcome["user"] == str(self.ben.pk)

    async def test_two_clients_hear_each_other_and_the_server(self) -> None:
        """One node has both; what Django code publishes after the commit reaches them."""
        async with RealtimeClient(user=self.alice) as alice, RealtimeClient(user=self.ben) as ben:
            await alice.join("orders")
            await ben.join("orders")
            await alice.publish("orders", {"n": 1})
            assert await ben.next("room") == {"type": "room", "room": "orders", "from": alice.id, "data": {"n": 1}}
            await sync_to_async(self.publish_after_commit)()
            for each in (alice, ben):
                assert (await each.next())["data"] == "committed"
            assert await alice.received() == []

    def publish_after_commit(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            transaction.on_commit(lambda: api.publish_room("orders", "committed"))

    async def test_every_thread_is_in_the_transaction(self) -> None:
        """Those of Channels, of the loop's pool, of handlers, and of HTTP requests; none of them ends it."""

        def look() -> list[str]:
            found = names_of_users()
            connection.close()  # as code does that gives its connection back
            return found

        async with RealtimeNode(OPEN):
            await User.objects.acreate(username="cleo")
            expected = ["alice", "ben", "cleo"]
            assert await asyncio.to_thread(look) == expected
            assert await database_sync_to_async(look)() == expected
            assert await database_sync_to_async(look, thread_sensitive=False)() == expected
        assert await User.objects.acount() == 3

    async def test_commands_of_the_project_use_it(self) -> None:
        """A plain handler runs in a thread, and its rows are the test's."""

        def register(client: commands.Client, *, name: str) -> list[str]:
            User.objects.create_user(name, last_name=client.get_user().get_username())
            return names_of_users()

        commands.registry.add("user.register", register)
        try:
            async with RealtimeClient(user=self.alice) as client:
                answer = await client.ask("user.register", name="dora")
                assert answer["data"] == ["alice", "ben", "dora"]
        finally:
            commands.registry.remove("user.register")
        assert (await User.objects.aget(username="dora")).last_name == "alice"

    async def test_commands_may_ask_for_permissions(self) -> None:
        """Those of Django, of the client's user."""

        async def may(client: commands.Client) -> list[bool]:
            return [await client.has_permission(f"auth.{each}_user") for each in ("add", "change")]

        await self.ben.user_permissions.aadd(await Permission.objects.aget(codename="add_user"))
        commands.registry.add("user.may", may)
        try:
            async with RealtimeClient(user=self.ben) as client:
                assert (await client.ask("user.may"))["data"] == [True, False]
        finally:
            commands.registry.remove("user.may")

    async def test_communicators_of_channels(self) -> None:
        """They connect to our application, and find the same session, and HTTP goes on to Django."""
        browser = AsyncClient()
        await browser.aforce_login(self.alice)
        cookie = "; ".join(f"{name}={each.value}" for name, each in browser.cookies.items())
        application: Any = realtime_application(get_asgi_application())  # type: ignore[arg-type]
        async with RealtimeNode(OPEN):
            plain = WebsocketCommunicator(application, "/ws/", [(b"cookie", cookie.encode())])
            assert (await plain.connect(timeout=5))[0]
            assert (await plain.receive_json_from(timeout=5))["user"] == str(self.alice.pk)
            await plain.send_json_to({"type": "ping", "ref": 1})
            assert await plain.receive_json_from(timeout=5) == {"type": "pong", "ref": 1}
            await plain.disconnect()
            headers = [(b"host", b"testserver"), (b"cookie", cookie.encode())]
            request = HttpCommunicator(application, "GET", "/admin/", headers=headers)
            assert (await request.get_response(timeout=30))["status"] == 302  # alice is no operator
            await request.wait(timeout=30)  # Django closes what it has read after it has answered

    async def test_consumers_of_the_project(self) -> None:
        """Are served by our application as before."""

        class Echo(AsyncWebsocketConsumer):
            async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
                await self.send(text_data)

        routed: Any = path("echo/", cast(Any, Echo.as_asgi()))
        own = ProtocolTypeRouter({"websocket": URLRouter([routed])})
        async with RealtimeNode(OPEN):  # which has the layer that the consumer needs
            echo = WebsocketCommunicator(realtime_application(own), "/echo/")  # type: ignore[arg-type]
            assert (await echo.connect(timeout=5))[0]
            await echo.send_to(text_data="hello")
            assert await echo.receive_from(timeout=5) == "hello"
            await echo.disconnect()

    def test_it_is_over_with_the_test(self) -> None:
        """What the tests above have created is gone, whatever thread created it."""
        assert names_of_users() == ["alice", "ben"]


class WithoutADatabase(SimpleTestCase):
    """Where Django forbids queries."""

    async def test_an_anonymous_client_needs_none(self) -> None:
        """From the handshake to the end."""
        async with RealtimeNode(OPEN), RealtimeClient() as client:
            assert client.welcome["user"] is None
            await client.join("lobby")
            await api.apublish_room("lobby", 1)
            assert (await client.next("room"))["data"] == 1

    @override_settings(REALTIME=OPEN)
    async def test_a_client_brings_its_node(self) -> None:
        """And takes it away again."""
        async with RealtimeClient() as client:
            process = runtime()
            assert process.node is not None
            assert client.welcome["node"] == process.node.id
        assert process.node is None
        assert runtime() is not process


class InNoTransaction(TransactionTestCase):
    """Rows are committed: every thread has a connection of its own, as in production."""

    async def test_a_client_is_its_user(self) -> None:
        """No connection is shared."""
        alice = await User.objects.acreate(username="alice")
        async with RealtimeClient(user=alice) as client:
            assert client.welcome["user"] == str(alice.pk)


@pytest.mark.usefixtures("database")
class TestOnEachDatabase:
    """SQLite in a file, and PostgreSQL."""

    def test_as_testcase_does(self) -> None:
        """The transaction is that of the thread which waits for the coroutine."""
        with transaction.atomic():
            alice = User.objects.create_user("alice")
            async_to_sync(self.meet)(alice)
            assert names_of_users() == ["alice", "ben"]
            transaction.set_rollback(True)
        assert names_of_users() == []

    async def meet(self, alice: User) -> None:
        async with RealtimeClient(user=alice) as client:
            assert client.welcome["user"] == str(alice.pk)
            await asyncio.to_thread(self.create_ben)

    def create_ben(self) -> None:
        User.objects.create_user("ben")
        connection.close()  # as code does that gives its connection back: the test's own stays open

    @pytest.fixture
    def alice(self, database: str) -> Any:
        with transaction.atomic():
            yield User.objects.create_user("alice")
            assert names_of_users() == ["alice", "ben"]
            transaction.set_rollback(True)
        assert names_of_users() == []

    async def test_as_a_fixture_does(self, alice: User) -> None:
        """The transaction is that of the thread which has the loop."""
        await self.meet(alice)


@pytest.mark.django_db
async def test_in_pytest(django_user_model: Any, alice: User) -> None:
    """With pytest-django's ``db``, too."""
    async with RealtimeClient(user=alice) as client:
        assert client.welcome["user"] == str(alice.pk)
        assert [each.username async for each in User.objects.all()] == ["alice"]


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


# -- the client ------------------------------------------------------------------------------------------------------


async def test_what_is_not_asked_for_is_kept() -> None:
    """Answers are found by their ref, pushes by their type, in whatever order they came."""
    async with RealtimeNode(OPEN), RealtimeClient() as client:
        await client.join("a")
        await api.apublish_broadcast("all")
        await api.apublish_room("a", "room")
        await api.apublish_private(client.id, "private")
        assert await client.ping() == {"type": "pong", "ref": "test-2"}
        assert (await client.next("private"))["data"] == "private"
        assert [each["data"] for each in await client.received()] == ["all", "room"]
        assert await client.received() == []
        with pytest.raises(TimeoutError):
            await client.next("room", timeout=0.01)


async def test_an_error_is_raised() -> None:
    """With its code; a command that nobody waits for is answered by a message like any other."""
    async with RealtimeNode(OPEN), RealtimeClient() as client:
        with pytest.raises(Refused) as caught:
            await client.publish("nowhere", 1)
        assert (caught.value.code, caught.value.retry_after) == ("not_joined", None)
        await client.send("leave", room="nowhere", ref=9)
        await client.send_text("{")
        assert [each["code"] for each in (await client.next("error"), await client.next("error"))] == [
            "not_joined",
            "bad_json",
        ]


async def test_a_refused_handshake_is_raised() -> None:
    """With its status: another origin, an unknown path."""
    evil = [(b"origin", b"http://evil.example")]
    async with RealtimeNode(OPEN):
        for options, status in (({"headers": evil}, 403), ({"path": "/ws/x"}, 404)):
            with pytest.raises(ConnectionDenied) as caught:
                await RealtimeClient(**options).__aenter__()
            assert caught.value.status == status


async def test_a_token_is_sent() -> None:
    """Before the test goes on."""
    async with RealtimeNode(OPEN), RealtimeClient(token=issue_token(7)) as client:
        await api.apublish_private("user:7", "hello")
        assert (await client.next())["data"] == "hello"


async def test_the_end_by_the_server() -> None:
    """Its code and reason, for whoever waits for it, and for whoever waits for something else."""
    async with RealtimeNode(OPEN), RealtimeClient() as client:
        assert (await api.adisconnect(connection=client.id, code=4001, reason="Logged out")).count == 1
        assert await client.closed() == (4001, "Logged out")
        with pytest.raises(Closed, match="4001 'Logged out'"):
            await client.next()


async def test_what_the_application_raises_is_raised() -> None:
    """A test sees the failure itself."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError

    async with RealtimeNode(OPEN):
        with pytest.raises(ZeroDivisionError):
            await RealtimeClient(application=broken).__aenter__()
