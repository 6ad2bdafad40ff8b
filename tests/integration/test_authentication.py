"""A project's own way to say who a client is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import TestCase, override_settings

from realtime import api
from realtime.auth import ANONYMOUS, Identity, issue_token
from realtime.authentication import Credentials
from realtime.checks import bad_setting
from realtime.conf import DEVELOPMENT, BadSetting
from realtime.routing import realtime_application
from realtime.testing import Closed, ConnectionDenied, RealtimeClient, RealtimeNode, Refused

MODULE = "authentication_of_this_test"
OPEN = {"DEFAULTS": DEVELOPMENT}


def hooked(name: str) -> dict[str, Any]:
    return {**OPEN, "AUTHENTICATION": f"{MODULE}.{name}"}


def by_key(credentials: Credentials) -> Identity | None:
    """Headers, query, cookies and tokens that no session and no JWT is in."""
    for found in (
        credentials.headers.get("x-api-key"),
        credentials.query.get("key"),
        credentials.cookies.get("key"),
        credentials.token,
    ):
        if found is not None and found.startswith("key-of-"):
            return Identity(user=found.removeprefix("key-of-"), label="by key")
    return ANONYMOUS if credentials.path == "/ws" else None


async def by_row(credentials: Credentials) -> Identity | None:
    user = await User.objects.filter(username=credentials.query.get("name", "")).afirst()
    return None if user is None else Identity(user=str(user.pk), label=user.username)


def plain_by_row(credentials: Credentials) -> Identity | None:
    user = User.objects.filter(username=credentials.query.get("name", "")).first()
    return None if user is None else Identity(user=str(user.pk), label=user.username)


def nobody(credentials: Credentials) -> Identity:
    return ANONYMOUS


def fails_for_tokens(credentials: Credentials) -> None:
    if credentials.token is not None:
        raise ZeroDivisionError


def wrong(credentials: Credentials) -> str:
    return "7"


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    """The functions, where a dotted path finds them."""
    made = sys.modules[MODULE] = ModuleType(MODULE)
    made.__dict__.update(by_key=by_key, by_row=by_row, plain_by_row=plain_by_row, wrong=wrong, nobody=nobody)
    made.__dict__.update(fails_for_tokens=fails_for_tokens, number=7)
    yield
    del sys.modules[MODULE]


@pytest.mark.parametrize(
    "options",
    [
        {"headers": [(b"X-Api-Key", b"key-of-7")]},
        {"path": "/ws/?key=key-of-7&x="},
        {"cookies": {"key": "key-of-7"}},
    ],
    ids=["header", "query", "cookie"],
)
async def test_a_handshake_says_who_the_client_is(options: dict[str, Any]) -> None:
    """By whatever it brings."""
    async with RealtimeNode(hooked("by_key")), RealtimeClient(**options) as client:
        assert client.welcome["user"] == "7"
        await api.apublish_private("user:7", 1)
        assert (await client.next("private"))["data"] == 1


async def test_a_token_of_ones_own() -> None:
    """With the command ``authenticate``, said anew once a day if it has no end; tokens of ours are good as before."""
    async with RealtimeNode({**hooked("by_key")}):
        async with RealtimeClient() as client:
            assert client.welcome["user"] is None
            assert await client.authenticate("key-of-7") == {
                "type": "authenticated",
                "ref": "test-1",
                "user": "7",
                "expires_in": 86_400,
            }
            with pytest.raises(Refused, match="unauthorized"):
                await client.authenticate("key-of-8")
        async with RealtimeClient() as client:
            assert (await client.authenticate(issue_token(9)))["user"] == "9"
            with pytest.raises(Refused, match="unauthorized"):
                await client.authenticate("no key, and no token")


class InTheDatabase(TestCase):
    """With rows."""

    alice: User
    ben: User

    @classmethod
    def setUpTestData(cls) -> None:
        cls.alice = User.objects.create_user("alice")
        cls.ben = User.objects.create_user("ben")

    async def test_plain_functions_and_coroutines(self) -> None:
        """Both may use the database."""
        for name in ("by_row", "plain_by_row"):
            async with RealtimeNode(hooked(name)), RealtimeClient(path="/ws/?name=ben") as client:
                assert client.welcome["user"] == str(self.ben.pk)

    async def test_it_goes_before_the_session(self) -> None:
        """Which counts where the function says nothing, and does not where it says that the client is nobody."""
        async with RealtimeNode(hooked("by_key")):
            async with RealtimeClient(user=self.alice, path="/ws/?key=key-of-7") as client:
                assert client.welcome["user"] == "7"
            async with RealtimeClient(user=self.alice) as client:
                assert client.welcome["user"] == str(self.alice.pk)
            async with RealtimeClient(user=self.alice, path="/ws") as client:
                assert client.welcome["user"] is None


async def test_another_answer_is_a_failure() -> None:
    """It lets nobody in, who may come back later, and takes no token."""
    async with RealtimeNode(hooked("wrong")):
        for subprotocols in ([], ["realtime", "token.x"]):
            with pytest.raises(ConnectionDenied) as caught:
                await RealtimeClient(subprotocols=subprotocols).__aenter__()
            assert caught.value.status == 503
    async with RealtimeNode(hooked("fails_for_tokens")), RealtimeClient() as client:
        with pytest.raises(Refused, match="unavailable"):
            await client.authenticate("x")


async def test_a_token_in_the_handshake() -> None:
    """Comes alone; nobody is let in by one that the function knows as nobody's."""
    client = RealtimeClient(subprotocols=["realtime", "token.key-of-7"], path="/ws/?key=key-of-8")
    async with RealtimeNode(hooked("by_key")), client:
        assert client.welcome["user"] == "7"
    async with RealtimeNode(hooked("nobody")):
        with pytest.raises(Closed, match="4001"):
            await RealtimeClient(subprotocols=["realtime", "token.key-of-7"]).__aenter__()


@pytest.mark.parametrize(("name", "problem"), [("nowhere", "cannot be imported"), ("number", "cannot be called")])
def test_a_path_that_leads_nowhere(name: str, problem: str) -> None:
    """Stops the start, and ``check`` says so."""
    with override_settings(REALTIME=hooked(name)):
        with pytest.raises(BadSetting, match=problem):
            realtime_application(None)  # type: ignore[arg-type]
        found = bad_setting()
    assert found is not None
    assert problem in found[0]


def test_credentials_do_not_show_themselves() -> None:
    """In a log or a traceback."""
    credentials = Credentials("/ws/", "", {"cookie": "secret"}, {"a": "secret"}, {"key": "secret"}, "secret")
    assert "secret" not in repr(credentials)
