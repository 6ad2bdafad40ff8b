"""What is known about a client before it is accepted: where it comes from, and who its cookie says it is."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from ipaddress import ip_address
from urllib.parse import urlsplit

from realtime.auth import ANONYMOUS, Identity
from realtime.server.socket import Scope

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def header(scope: Scope, name: bytes) -> str:
    """The last header of that name, decoded; empty when there is none."""
    value = b""
    for key, candidate in scope.get("headers", []):
        if key == name:
            value = candidate
    return value.decode("latin1")


def is_origin_allowed(scope: Scope, allowed_origins: Iterable[str]) -> bool:
    """Whether the page that opens this WebSocket may: its own host and port, or one of ``allowed_origins``.

    A client without an Origin header is no browser, and carries nobody's cookies unasked.
    """
    origins = [value.decode("latin1") for key, value in scope.get("headers", []) if key == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].lower()
    allowed = {each.lower().rstrip("/") for each in allowed_origins}
    if "*" in allowed or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"//{header(scope, b'host').lower()}")
        is_own_host = parts.hostname is not None and parts.hostname == own.hostname
        default = DEFAULT_PORTS.get(parts.scheme)
        return parts.scheme in ("http", "https") and is_own_host and (parts.port or default) == (own.port or default)
    except ValueError:
        return False


def remote_address(scope: Scope, trusted_proxies: Iterable[str]) -> str:
    """The client's address: the peer, or behind a trusted proxy what that proxy added last to X-Forwarded-For."""
    client = scope.get("client")
    address = str(client[0]) if client else ""
    trusted = set(trusted_proxies)
    forwarded = [part.strip() for part in header(scope, b"x-forwarded-for").split(",") if part.strip()]
    while address in trusted and forwarded:
        candidate = forwarded.pop()
        try:
            address = str(ip_address(candidate))
        except ValueError:
            break
    return address


async def identity_of(scope: Scope) -> Identity:
    """The user of the Django session in the cookie; without a cookie anonymous, and no database query."""
    from channels.auth import get_user
    from django.conf import settings
    from django.http import parse_cookie

    key = parse_cookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    if not key:
        return ANONYMOUS
    session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    user = await get_user({"session": session})  # type: ignore[typeddict-item]  # all that it reads
    if not user.is_authenticated or not user.is_active:
        return ANONYMOUS
    return Identity(user=str(user.pk), label=user.get_username())
