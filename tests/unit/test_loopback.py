"""A development server serves its own machine only."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

import pytest

from config.loopback import WARNING_INTERVAL_SECONDS, LoopbackOnly
from realtime.peers import first_stranger


class Inner:
    """An application that notes the scopes it was given."""

    def __init__(self) -> None:
        self.scopes: list[MutableMapping[str, Any]] = []

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        self.scopes.append(scope)


def request(client: str | None = "127.0.0.1", kind: str = "http", **headers: str) -> dict[str, Any]:
    encoded = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": kind, "client": (client, 4711) if client else None, "headers": encoded}


async def sent_to(application: LoopbackOnly, scope: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent


@pytest.mark.parametrize(
    "scope",
    [
        request("127.0.0.1"),
        request("127.8.8.8"),
        request("::1"),
        request("::ffff:127.0.0.1"),
        request(None),
        request(x_forwarded_for="127.0.0.1, ::1"),
    ],
)
def test_loopback_peers_are_served(scope: dict[str, Any]) -> None:
    """Loopback addresses of both families are served, and so are peers on a Unix socket."""
    assert first_stranger(scope) is None


@pytest.mark.parametrize(
    "scope",
    [
        request("192.0.2.1"),
        request("2001:db8::1"),
        request("::ffff:192.0.2.1"),
        request("testclient"),
        request("192.0.2.1", x_forwarded_for="127.0.0.1"),
        request(x_forwarded_for="192.0.2.1"),
        request(x_forwarded_for="127.0.0.1, 192.0.2.1"),
        request(x_forwarded_for="garbage"),
        request(x_real_ip="192.0.2.1"),
    ],
)
def test_others_are_strangers_whatever_their_headers_say(scope: dict[str, Any]) -> None:
    """A header can refuse a peer, but never make a stranger local."""
    assert first_stranger(scope) is not None


async def test_a_stranger_gets_403_over_http() -> None:
    """A request of a stranger is answered with 403 and the way out, without reaching the application."""
    inner = Inner()
    start, body = await sent_to(LoopbackOnly(inner), request("192.0.2.1"))
    assert start["status"] == 403
    assert b"DJANGO_DEBUG=0" in body["body"]
    assert inner.scopes == []


async def test_a_stranger_gets_no_websocket() -> None:
    """A WebSocket of a stranger is closed before it is accepted, which servers answer with 403."""
    inner = Inner()
    assert await sent_to(LoopbackOnly(inner), request("192.0.2.1", "websocket")) == [{"type": "websocket.close"}]
    assert inner.scopes == []


async def test_what_has_no_peer_passes() -> None:
    """Lifespan events reach the application."""
    inner = Inner()
    await sent_to(LoopbackOnly(inner), {"type": "lifespan"})
    assert [scope["type"] for scope in inner.scopes] == ["lifespan"]


async def test_the_warning_comes_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Refusals are logged with the way out, at most once a minute."""
    now = 1000.0
    application = LoopbackOnly(Inner(), clock=lambda: now)
    with caplog.at_level(logging.WARNING, "config.loopback"):
        await sent_to(application, request("192.0.2.1"))
        now += WARNING_INTERVAL_SECONDS - 1
        await sent_to(application, request("192.0.2.2"))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "DJANGO_DEBUG=0" in caplog.text
        now += 1
        await sent_to(application, request("192.0.2.3"))
    assert len(caplog.records) == 2
