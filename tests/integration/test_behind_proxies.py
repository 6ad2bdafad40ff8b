"""What Django is told about a client: the truth, whoever writes headers."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from pytest_django import Settings

from realtime.routing import behind_proxies

WRITTEN = [
    (b"host", b"chat.example"),
    (b"x-forwarded-for", b"198.51.100.7, 203.0.113.9"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"evil.example"),
    (b"x-real-ip", b"198.51.100.7"),
]


@pytest.mark.parametrize("is_header_believed", [False, True])
@pytest.mark.parametrize(
    ("peer", "address", "is_secure", "left"),
    [
        ("10.1.2.3", "203.0.113.9", True, ["HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP"]),
        ("198.51.100.66", "198.51.100.66", False, []),
    ],
    ids=["a proxy", "a stranger"],
)
async def test_what_django_sees(
    settings: Settings, peer: str, address: str, is_secure: bool, left: list[str], is_header_believed: bool
) -> None:
    """Address and scheme as a trusted proxy says; of a stranger's words nothing. SECURE_PROXY_SSL_HEADER or not."""
    settings.REALTIME = {"TRUSTED_PROXIES": ["10.0.0.0/8"]}
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if is_header_believed else None
    seen: list[ASGIRequest] = []

    async def django(scope: Any, receive: Any, send: Any) -> None:
        seen.append(ASGIRequest(scope, BytesIO()))

    async def nothing(*arguments: object) -> Any:
        raise AssertionError("nobody asks")

    scope = {"type": "http", "method": "GET", "path": "/", "client": (peer, 4711), "headers": WRITTEN}
    await behind_proxies(django)(scope, nothing, nothing)
    (request,) = seen
    assert request.META["REMOTE_ADDR"] == address
    assert request.is_secure() is is_secure
    assert sorted(name for name in request.META if "FORWARDED" in name or "REAL_IP" in name) == left
