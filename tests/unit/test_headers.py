"""What browsers are told about our pages."""

from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from pytest_django import Settings

from config.headers import page_headers, policy


def directives(header: str) -> dict[str, list[str]]:
    parts = (part.split() for part in header.split(";"))
    return {name: sources for name, *sources in parts}


def test_nothing_inline_and_nothing_from_elsewhere() -> None:
    """Scripts and styles come from this host's files alone; frames, plugins and other bases are not allowed."""
    found = directives(policy("chat.example", is_secure=True))
    assert found["script-src"] == found["style-src"] == found["worker-src"] == found["form-action"] == ["'self'"]
    assert found["default-src"] == found["base-uri"] == found["frame-ancestors"] == ["'none'"]


@pytest.mark.parametrize(
    ("host", "is_secure", "sources"),
    [
        ("chat.example:8443", True, ["'self'", "wss://chat.example:8443"]),
        ("[::1]:8080", False, ["'self'", "ws://[::1]:8080", "wss://[::1]:8080"]),
        ("", False, ["'self'"]),
    ],
)
def test_the_page_may_open_its_own_websocket(host: str, is_secure: bool, sources: list[str]) -> None:
    """Where 'self' is no WebSocket to a browser, that of the page's own host and port is named."""
    assert directives(policy(host, is_secure))["connect-src"] == sources


def answered(request: HttpRequest, status: int = 200) -> HttpResponse:
    """What the middleware makes of an answer."""
    response = page_headers(lambda _: HttpResponse("text", status=status))(request)
    assert isinstance(response, HttpResponse)
    return response


def test_a_host_that_is_not_ours_is_not_named(settings: Settings) -> None:
    """What a client calls us is believed as far as ALLOWED_HOSTS goes; the policy is there all the same."""
    settings.ALLOWED_HOSTS = ["chat.example"]
    header = answered(RequestFactory().get("/", headers={"host": "evil.example"}), status=400)[
        "Content-Security-Policy"
    ]
    assert directives(header)["connect-src"] == ["'self'"]
    header = answered(RequestFactory().get("/", headers={"host": "chat.example"}))["Content-Security-Policy"]
    assert "ws://chat.example" in directives(header)["connect-src"]


@pytest.mark.parametrize("is_debug", [True, False])
@pytest.mark.parametrize("status", [200, 403, 404, 500])
def test_djangos_technical_pages_keep_their_style(settings: Settings, is_debug: bool, status: int) -> None:
    """A 404 and a 500 in development have their style inside, which no other page may; no page has a script inside."""
    settings.DEBUG = is_debug
    found = directives(answered(RequestFactory().get("/"), status)["Content-Security-Policy"])
    assert ("'unsafe-inline'" in found["style-src"]) is (is_debug and status in (404, 500))
    assert found["script-src"] == ["'self'"]


def test_a_view_may_have_a_policy_of_its_own() -> None:
    """What a view says about its own page holds."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("text", headers={"Content-Security-Policy": "sandbox"})

    assert page_headers(view)(RequestFactory().get("/"))["Content-Security-Policy"] == "sandbox"


async def test_it_works_between_asynchronous_middlewares() -> None:
    """Under ASGI it takes part without a thread."""

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("text")

    response = await page_headers(view)(RequestFactory().get("/"))
    assert "camera=()" in response["Permissions-Policy"]
    assert "default-src 'none'" in response["Content-Security-Policy"]
