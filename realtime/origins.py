"""Where the page comes from that opens a connection, and whether it may: one pure function over headers.

Scheme, host and port are compared, as RFC 6454 has it. Browsers write an origin in one way only, and say ``null`` where
they will not tell; whatever does not look like that is refused, never mended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address

ANY = "*"
NULL = b"null"
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
PAGE_SCHEMES = {"ws": "http", "wss": "https"}
PORT_MAX = 65_535

_AUTHORITY = rb"([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?"
_ORIGIN = re.compile(rb"([a-z][a-z0-9+.-]*)://" + _AUTHORITY, re.IGNORECASE)
_HOST = re.compile(_AUTHORITY, re.IGNORECASE)

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Site:
    """A scheme, a host and a port, all of which must be equal. ``port`` is None where a scheme has no default."""

    scheme: str
    host: str
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginRules:
    """Which pages may connect besides those of our own site; ``is_own_host``: whether a host name is ours."""

    is_own_host: Callable[[str], bool]
    allowed: frozenset[Site] = field(default_factory=frozenset)
    any_is_allowed: bool = False
    null_is_allowed: bool = False
    missing_is_allowed: bool = True


def read_origin(text: bytes) -> Site | None:
    """The site in an Origin header; None when no browser would have written that."""
    match = _ORIGIN.fullmatch(text)
    return _site(match[1].decode().lower(), match[2], match[3]) if match else None


def read_host(text: bytes, scheme: str) -> Site | None:
    """The site in a Host header, reached by ``scheme``; None when it is none."""
    match = _HOST.fullmatch(text)
    return _site(PAGE_SCHEMES.get(scheme, scheme), match[1], match[2]) if match else None


def read_allowed(text: str) -> Site | None:
    """One of ALLOWED_ORIGINS; None for ``*``. Raises ValueError."""
    if text == ANY:
        return None
    site = read_origin(text.removesuffix("/").encode())
    if site is None:
        raise ValueError('must be origins like "https://chat.example.com" or "*"')
    return site


def judge_origin(headers: Headers, scheme: str, rules: OriginRules) -> str | None:
    """Why a request is refused for its origin; None when it is not. ``scheme`` is how the client reached us.

    1. several, missing and ``null`` ones; 2. what no browser writes; 3. those that are allowed by name; 4. our own
    site: the same scheme, host and port as the request itself, at a host that is ours. Without that last condition a
    name of the attacker's that leads to our address would be its own site here.
    """
    origins, hosts, is_cross_site = _relevant(headers)
    if not origins and is_cross_site:
        return "missing, from another site"
    if not origins:
        return None if rules.missing_is_allowed else "missing"
    if len(origins) > 1:
        return "several origins"
    if origins[0] == NULL:
        return None if rules.null_is_allowed else "null"
    origin = read_origin(origins[0])
    if origin is None:
        return "malformed"
    if rules.any_is_allowed or origin in rules.allowed:
        return None
    if len(hosts) != 1:
        return "no host or several"
    if origin != read_host(hosts[0], scheme):
        return "another site"
    return None if rules.is_own_host(origin.host.removesuffix(".")) else "a host that is not ours"


def _relevant(headers: Headers) -> tuple[list[bytes], list[bytes], bool]:
    """The origins, the hosts, and whether a browser says that another site's page asks."""
    origins, hosts, is_cross_site = [], [], False
    for name, value in headers:
        if name == b"origin":
            origins.append(value)
        elif name == b"host":
            hosts.append(value)
        elif name == b"sec-fetch-site":
            is_cross_site = is_cross_site or value.lower() in (b"cross-site", b"same-site")
    return origins, hosts, is_cross_site


def _site(scheme: str, host: bytes, port: bytes | None) -> Site | None:
    number = int(port) if port else DEFAULT_PORTS.get(scheme)
    name = host.decode().lower()
    if number is not None and number > PORT_MAX:
        return None
    if name.startswith("["):
        try:
            name = f"[{IPv6Address(name[1:-1]).compressed}]"
        except AddressValueError:
            return None
    return Site(scheme, name, number)
