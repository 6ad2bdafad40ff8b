"""What proxies say of a client, believed only from those that are named: its address, and whether it uses TLS."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

UNIX = "unix"
"""Stands for every peer on a Unix socket, which has no address."""

FOR, PROTO = b"x-forwarded-for", b"x-forwarded-proto"
FORWARDED = frozenset({FOR, PROTO, b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip", b"forwarded"})
"""What only a proxy has to say."""
SECURE = {"https": True, "wss": True, "http": False, "ws": False}

Scope = MutableMapping[str, Any]
Network = IPv4Network | IPv6Network


def read_network(name: str) -> Network | None:
    """One of TRUSTED_PROXIES: an address, a network (``10.0.0.0/8``), or ``unix`` (None). Raises ValueError."""
    if name == UNIX:
        return None
    try:
        return ip_network(name)
    except ValueError as error:
        raise ValueError(f'must be addresses, networks like "10.0.0.0/8" or "unix": {error}') from error


class TrustedProxies:
    """The proxies that are believed, read once."""

    def __init__(self, names: Iterable[str]) -> None:
        networks = [read_network(name) for name in names]
        self._trusts_unix = None in networks
        self._networks = [network for network in networks if network is not None]

    def settle(self, scope: Scope) -> None:
        """Put the truth into a request's scope: who the client is, and whether it uses TLS.

        From here on ``client`` and ``scheme`` need no second look. Of what proxies write nothing remains that was used
        here, and nothing at all where no trusted proxy has written it.
        """
        scope.setdefault("scheme", "ws" if scope["type"] == "websocket" else "http")
        headers = scope["headers"]
        if not any(name in FORWARDED for name, _ in headers):
            return
        is_trusted = self._is_trusted_peer(scope)
        if is_trusted:
            self._believe(scope, _values(headers, FOR), _values(headers, PROTO))
        dropped = (FOR, PROTO) if is_trusted else FORWARDED
        scope["headers"] = [header for header in headers if header[0] not in dropped]

    def _is_trusted_peer(self, scope: Scope) -> bool:
        client = scope.get("client")
        if client:
            address = _address(str(client[0]))
            return address is not None and self._trusts(address)
        # No address although the server has a port: a peer that has gone, not a Unix socket.
        server = scope.get("server")
        return self._trusts_unix and not (server and server[1])

    def _trusts(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)

    def _believe(self, scope: Scope, forwarded_for: list[str], protocols: list[str]) -> None:
        """The client is the last one that is no trusted proxy: what stands before it, it wrote itself."""
        while forwarded_for:
            address = _address(forwarded_for.pop())
            if address is None:
                break
            scope["client"] = (str(address), 0)
            if not self._trusts(address):
                break
        if protocols and (is_secure := SECURE.get(protocols[-1].lower())) is not None:
            plain = "ws" if scope["type"] == "websocket" else "http"
            scope["scheme"] = plain + "s" if is_secure else plain


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    """What the headers of that name list, in order."""
    text = b",".join(value for key, value in headers if key == name).decode("latin1")
    return [part.strip() for part in text.split(",") if part.strip()]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address, with or without a port; None when it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
