"""Who counts as this machine."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from ipaddress import IPv6Address, ip_address
from typing import Any

Scope = MutableMapping[str, Any]

PROXY_HEADERS = frozenset({b"x-forwarded-for", b"x-real-ip"})
IS_OWN_MACHINE = "realtime.is_own_machine"
"""In the scope of a request: whether it came from this machine, as seen before anybody made it another client's."""


def mark_own_machine(scope: Scope) -> None:
    """Note it while the peer and all headers are as they came. What says ``Forwarded`` is not looked into."""
    is_forwarded = any(name.lower() == b"forwarded" for name, _ in scope.get("headers", ()))
    scope[IS_OWN_MACHINE] = not is_forwarded and first_stranger(scope) is None


def first_stranger(scope: Scope) -> str | None:
    """The first address on the request's way that is not loopback, or None."""
    for address in _addresses(scope):
        if not is_loopback(address):
            return address
    return None


def is_loopback(address: str) -> bool:
    """Whether the text is a loopback address; what cannot be read is not."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


def _addresses(scope: Scope) -> Iterable[str]:
    client = scope.get("client")
    if client:  # a peer on a Unix socket has no address
        yield str(client[0])
    for name, value in scope.get("headers", ()):
        if name.lower() in PROXY_HEADERS:
            yield from (part.strip() for part in value.decode("latin-1").split(",") if part.strip())
