"""Who may see what is for operators."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.test import RequestFactory

from monitoring import access
from monitoring.access import is_this_machine, is_token
from realtime.logs import LineLimit
from realtime.peers import mark_own_machine

TOKEN = "a token of some length"


@pytest.mark.parametrize(
    ("header", "token", "is_right"),
    [
        (f"Bearer {TOKEN}", TOKEN, True),
        (f"bearer  {TOKEN} ", TOKEN, True),
        (f"Bearer {TOKEN}x", TOKEN, False),
        (f"Bearer {TOKEN[:-1]}", TOKEN, False),
        ("Bearer ", TOKEN, False),
        (TOKEN, TOKEN, False),
        (f"Basic {TOKEN}", TOKEN, False),
        ("", TOKEN, False),
        ("Bearer ", "", False),
        ("Bearer", "", False),
        ("Bearer ä\udc80".encode("utf-8", "replace").decode(), "ä", False),
        ("Bearer ä", "ä", True),
    ],
)
def test_a_token_is_the_whole_token(header: str, token: str, is_right: bool) -> None:
    """The scheme is Bearer, and nothing but the token follows; without a token nobody has it."""
    assert is_token(header, token) is is_right


@pytest.mark.parametrize(
    ("peer", "headers", "is_ours"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("", {}, True),  # a Unix socket
        ("192.0.2.1", {}, False),
        ("192.0.2.1", {"x-forwarded-for": "127.0.0.1"}, False),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, True),
        ("127.0.0.1", {"x-forwarded-for": "192.0.2.1"}, False),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1, 192.0.2.1"}, False),
        ("127.0.0.1", {"x-real-ip": "192.0.2.1"}, False),
        ("127.0.0.1", {"x-forwarded-for": "nonsense"}, False),
        ("127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
    ],
)
def test_a_header_takes_away_and_never_gives(peer: str, headers: dict[str, str], is_ours: bool) -> None:
    """A request is of this machine when its peer is, and no proxy on its way says otherwise; whether or not it came in
    through our own application."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 1) if peer else None, "headers": pairs}
    scope |= {"method": "GET", "path": "/metrics"}
    assert is_this_machine(ASGIRequest(scope, BytesIO())) is is_ours
    mark_own_machine(scope)
    scope["client"], scope["headers"] = ("127.0.0.1", 0), []  # whatever becomes of it on its way
    assert is_this_machine(ASGIRequest(scope, BytesIO())) is is_ours


def test_refusals_do_not_fill_the_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of them is counted one by one, and logged now and then."""
    monkeypatch.setattr(access, "_refusals", LineLimit(most=2, seconds=3600))
    for _ in range(100):
        assert access.refuse(RequestFactory().get("/health/"), "health", "no").status_code == 403
    assert len(caplog.records) == 2
