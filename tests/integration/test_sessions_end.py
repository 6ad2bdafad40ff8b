"""Connections that came with a session, through the whole of Django: requests end them, on the node of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from channels.db import database_sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import AsyncClient
from django.utils import timezone
from pytest_django import Settings

from realtime.auth import issue_token
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime

PASSWORD = "one two three four"
KEY = "a-key-of-this-test-alone-0123456789abcdef"
NO_LOOK = {"SESSION_CHECK_SECONDS": 0}
WEBSOCKET_SECONDS = 8


async def no_route(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(no_route)


@pytest.fixture
async def start(settings: Settings, sqlite_file: Path) -> AsyncIterator[Any]:
    """Starts a node with the defaults of production, on the memory layer; its database is empty but for users."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    await database_sync_to_async(_forget_connection)()
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    process = runtime()

    async def started(**own: Any) -> Runtime:
        settings.REALTIME = {"TRACKING_IS_ON": False, "TOKEN_KEYS": [KEY], **own}
        process.reload_settings()
        await process.start()
        return process

    yield started
    await process.stop()
    process.reload_settings()
    await database_sync_to_async(_forget_connection)()


def _forget_connection() -> None:
    """The thread behind asynchronous code would go on with the database of the test before."""
    connections["default"].close()
    del connections["default"]


class Visitor:
    """A browser: its requests, and a WebSocket with the cookie of its session."""

    def __init__(self, socket: WebsocketCommunicator, browser: AsyncClient | None = None) -> None:
        self.socket = socket
        self.browser = browser or AsyncClient()

    @classmethod
    async def of(cls, user: User) -> Visitor:
        browser = AsyncClient()
        await browser.aforce_login(user)
        return await cls.with_cookie(browser)

    @classmethod
    async def with_cookie(cls, browser: AsyncClient) -> Visitor:
        cookie = f"sessionid={browser.cookies['sessionid'].value}".encode()
        visitor = cls(WebsocketCommunicator(cast(Any, application), "/ws/", [(b"cookie", cookie)]), browser)
        assert (await visitor.socket.connect(timeout=5))[0]
        return visitor

    @classmethod
    async def with_token(cls, user: User, seconds: int = 60) -> Visitor:
        offered = ["realtime", f"token.{issue_token(user.pk, seconds=seconds)}"]
        visitor = cls(WebsocketCommunicator(cast(Any, application), "/ws/", [], offered))
        assert (await visitor.socket.connect(timeout=5))[0]
        return visitor

    async def welcomed(self) -> str | None:
        """The user in the welcome."""
        user: str | None = json.loads(await self.socket.receive_from(WEBSOCKET_SECONDS))["user"]
        return user

    async def closed(self) -> int:
        """The code that it is closed with; what else came is passed over."""
        while True:
            message = await self.socket.receive_output(WEBSOCKET_SECONDS)
            if message["type"] == "websocket.close":
                return int(message["code"])

    async def lives(self) -> bool:
        """Whether it still answers."""
        await self.socket.send_to('{"type":"ping","ref":"alive"}')
        while True:
            message = await self.socket.receive_output(WEBSOCKET_SECONDS)
            if message["type"] != "websocket.send":
                return False
            if json.loads(message["text"]).get("ref") == "alive":
                return True

    async def leave(self) -> None:
        await self.socket.disconnect()


@database_sync_to_async
def make_user(name: str = "ann", **fields: Any) -> User:
    return User.objects.create_user(name, password=PASSWORD, is_staff=True, is_superuser=True, **fields)


@database_sync_to_async
def change(user: User, **fields: Any) -> None:
    for name, value in fields.items():
        setattr(user, name, value)
    user.save()


async def test_a_logout_ends_the_connections_of_its_session(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """And no others, though they are the same user's."""
    await start(**NO_LOOK)
    user = await make_user()
    here, elsewhere, token = await Visitor.of(user), await Visitor.of(user), await Visitor.with_token(user)
    for each in (here, elsewhere, token):
        assert await each.welcomed() == str(user.pk)
    with caplog.at_level(logging.INFO):
        assert (await here.browser.post("/admin/logout/")).status_code == 200
        assert await here.closed() == 4001
    assert "cause=logged_out" in caplog.text
    assert await elsewhere.lives()
    assert await token.lives()
    await elsewhere.leave()
    await token.leave()


async def test_a_password_ends_all_connections_but_those_of_its_session(start: Any) -> None:
    """Which go on, and end with the session under its new key; everything of Django takes part."""
    process = await start(**NO_LOOK)
    user = await make_user()
    here, elsewhere, token = await Visitor.of(user), await Visitor.of(user), await Visitor.with_token(user)
    other = await Visitor.of(await make_user("ben"))
    before = here.browser.cookies["sessionid"].value
    new = {"old_password": PASSWORD, "new_password1": "five six seven eight", "new_password2": "five six seven eight"}
    assert (await here.browser.post("/admin/password_change/", new)).status_code == 302
    assert here.browser.cookies["sessionid"].value != before
    assert await elsewhere.closed() == 4001
    assert await token.closed() == 4001
    assert await here.lives()
    assert await other.lives()
    process.node.expiry.ask_all()  # the look finds it good, too
    again = await Visitor.with_cookie(here.browser)
    assert await again.welcomed() == str(user.pk)
    assert (await here.browser.post("/admin/logout/")).status_code == 200
    assert await here.closed() == await again.closed() == 4001
    await other.leave()


async def test_a_password_that_an_operator_changes(start: Any) -> None:
    """Ends all connections of its user, and none of the operator's."""
    await start(**NO_LOOK)
    user, operator = await make_user(), await Visitor.of(await make_user("boss"))
    visitor = await Visitor.of(user)
    new = {"password1": "five six seven eight", "password2": "five six seven eight", "usable_password": "true"}
    answer = await operator.browser.post(f"/admin/auth/user/{user.pk}/password/", new)
    assert answer.status_code == 302, answer.content
    assert await visitor.closed() == 4001
    assert await operator.lives()
    await operator.leave()


@pytest.mark.parametrize("what", ["deactivated", "deleted"])
async def test_a_user_who_is_gone(start: Any, what: str) -> None:
    """All connections end, by cookie and by token; nobody comes back with either."""
    await start(**NO_LOOK)
    user = await make_user()
    visitors = [await Visitor.of(user), await Visitor.with_token(user)]
    offered = ["realtime", f"token.{issue_token(user.pk)}"]
    if what == "deleted":
        await database_sync_to_async(user.delete)()
    else:
        await change(user, is_active=False)
    for visitor in visitors:
        assert await visitor.closed() == 4001
    back = await Visitor.with_cookie(visitors[0].browser)
    assert await back.welcomed() is None
    await back.leave()
    again = Visitor(WebsocketCommunicator(cast(Any, application), "/ws/", [], offered))
    assert (await again.socket.connect(timeout=5))[0]
    assert await again.closed() == 4001


async def test_a_login_keeps_the_connections_of_its_session(start: Any) -> None:
    """The same user logs in once more; the deletion of the session ends it."""
    await start(**NO_LOOK)
    user = await make_user()
    visitor = await Visitor.of(user)
    login = {"username": "ann", "password": PASSWORD, "next": "/admin/"}
    assert (await visitor.browser.post("/admin/login/", login)).status_code == 302
    assert await visitor.lives()
    await database_sync_to_async(Session.objects.all().delete)()
    assert await visitor.closed() == 4001


async def test_what_django_does_not_say_is_found(start: Any) -> None:
    """By the look at sessions: a user deactivated and a session expired behind Django's back; others stay."""
    process = await start(SESSION_CHECK_SECONDS=0)
    user, gone = await make_user(), await make_user("ben")
    stays, hidden, token = await Visitor.of(user), await Visitor.of(gone), await Visitor.with_token(gone)
    expired = await Visitor.of(user)

    @database_sync_to_async
    def behind() -> None:
        User.objects.filter(pk=gone.pk).update(is_active=False)
        key = expired.browser.cookies["sessionid"].value
        Session.objects.filter(session_key=key).update(expire_date=timezone.now() - timedelta(seconds=1))

    await behind()
    assert await token.lives()
    process.node.expiry.ask_all()
    for visitor in (hidden, token, expired):
        assert await visitor.closed() == 4001
    assert await stays.lives()
    await stays.leave()


async def test_the_look_comes_by_itself(start: Any) -> None:
    """Every SESSION_CHECK_SECONDS."""
    await start(SESSION_CHECK_SECONDS=0.3)
    user = await make_user()
    visitor = await Visitor.of(user)
    await database_sync_to_async(User.objects.filter(pk=user.pk).update)(is_active=False)
    assert await visitor.closed() == 4001


async def test_a_session_that_expires(start: Any, settings: Settings) -> None:
    """Ends its connections without any look in between; one that was prolonged meanwhile goes on."""
    settings.SESSION_COOKIE_AGE = 2
    await start(**NO_LOOK)
    user = await make_user()
    ends, prolonged = await Visitor.of(user), await Visitor.of(user)
    key = prolonged.browser.cookies["sessionid"].value
    later = timezone.now() + timedelta(hours=1)
    await database_sync_to_async(Session.objects.filter(session_key=key).update)(expire_date=later)
    assert await ends.closed() == 4001
    assert await prolonged.lives()
    await prolonged.leave()


async def test_a_database_that_is_away_closes_nobody(
    start: Any, sqlite_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One line in the log says so; when it is back the look finds what there was to find."""
    process = await start(**NO_LOOK)
    user = await make_user()
    visitor = await Visitor.of(user)
    hidden = sqlite_file.with_suffix(".away")

    @database_sync_to_async
    def hide() -> None:
        User.objects.filter(pk=user.pk).update(is_active=False)
        connections.close_all()
        for each in sqlite_file.parent.glob(f"{sqlite_file.name}-*"):
            each.unlink()
        sqlite_file.rename(hidden)
        sqlite_file.mkdir()

    await hide()
    process.node.expiry.ask_all()
    async with asyncio.timeout(8):
        while "session_check_failed" not in caplog.text:
            await asyncio.sleep(0.01)
    assert await visitor.lives()
    sqlite_file.rmdir()
    hidden.rename(sqlite_file)
    process.node.expiry.ask_all()
    assert await visitor.closed() == 4001


async def test_a_backplane_that_is_away_holds_up_no_request(start: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The logout is done, the failure is logged and counted, and the look closes the connection."""
    process = await start(**NO_LOOK)
    visitor = await Visitor.of(await make_user())
    process.node.trust.subscription_lost()
    assert (await visitor.browser.post("/admin/logout/")).status_code == 200
    async with asyncio.timeout(8):
        while "revocation_failed" not in caplog.text:
            await asyncio.sleep(0.01)
    assert await visitor.lives()
    process.node.expiry.ask_all()
    assert await visitor.closed() == 4001


async def test_a_session_stays_the_credential_of_its_connection(start: Any) -> None:
    """A token that it sends, however long it is good, does not let it outlive the session."""
    await start(**NO_LOOK)
    user = await make_user()
    visitor = await Visitor.of(user)
    await visitor.socket.send_to(json.dumps({"type": "authenticate", "token": issue_token(user.pk)}))
    assert await visitor.lives()
    assert (await visitor.browser.post("/admin/logout/")).status_code == 200
    assert await visitor.closed() == 4001


async def open_feed(browser: AsyncClient) -> Visitor:
    """What keeps a page of the admin up to date."""
    cookie = f"sessionid={browser.cookies['sessionid'].value}".encode()
    feed = WebsocketCommunicator(cast(Any, application), "/admin/feed/?page=cluster", [(b"cookie", cookie)])
    assert (await feed.connect(timeout=5))[0]
    return Visitor(feed, browser)


async def open_page(browser: AsyncClient) -> Visitor:
    """The same, once it has been sent the page's living part."""
    page = await open_feed(browser)
    assert "html" in json.loads(await page.socket.receive_from(WEBSOCKET_SECONDS))
    return page


async def test_an_open_page_of_the_admin_ends_with_its_session(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, and need not look; pages of other sessions of the same user stay until the user is gone."""
    monkeypatch.setattr("monitoring.feed.LOOK_SECONDS", 600)
    process = await start(**NO_LOOK)
    user = await make_user()
    pages = []
    for _ in range(2):
        browser = AsyncClient()
        await browser.aforce_login(user)
        pages.append(await open_page(browser))
    stays, goes = pages
    await goes.browser.post("/admin/logout/")
    assert await goes.closed() == 4001
    assert stays.socket.output_queue.empty()
    await change(user, is_active=False)
    assert await stays.closed() == 4001
    assert process.node.orders._guests == {}


async def test_a_session_that_ends_while_its_page_opens(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the question who may see it and the node's listening for the session's end: nobody tells of that."""
    monkeypatch.setattr("monitoring.feed.LOOK_SECONDS", 600)
    process = await start(**NO_LOOK)
    browser = AsyncClient()
    await browser.aforce_login(await make_user())
    listen = process.node.orders.guest

    @contextlib.asynccontextmanager
    async def listens_late(*whom: str) -> AsyncIterator[asyncio.Event]:
        await browser.post("/admin/logout/")
        async with listen(*whom) as ended:
            yield ended

    monkeypatch.setattr(process.node.orders, "guest", listens_late)
    page = await open_feed(browser)
    assert await page.closed() == 4003
    assert process.node.orders._guests == {}


async def test_an_open_page_of_the_admin_ends_with_the_right_to_see_it(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of permissions: they are looked at from time to time."""
    monkeypatch.setattr("monitoring.feed.LOOK_SECONDS", 0.01)
    await start(**NO_LOOK)
    user = await make_user()
    browser = AsyncClient()
    await browser.aforce_login(user)
    page = await open_page(browser)
    await change(user, is_superuser=False)
    assert await page.closed() == 4003
