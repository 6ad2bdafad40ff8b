"""Whom we believe about a client, and what we believe."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.proxies import TrustedProxies, read_network

PROXIES = TrustedProxies(["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"])
PEER = "127.0.0.1"


def settled(
    peer: str | None, *headers: tuple[bytes, bytes], kind: str = "websocket", proxies: TrustedProxies = PROXIES
) -> dict[str, Any]:
    scope = {
        "type": kind,
        "client": None if peer is None else (peer, 5),
        "server": None if peer is None else ("127.0.0.1", 80),
        "headers": [(b"host", b"chat.example"), *headers],
    }
    proxies.settle(scope)
    return scope


def address(peer: str | None, *forwarded: bytes, proxies: TrustedProxies = PROXIES) -> str | None:
    scope = settled(peer, *((b"x-forwarded-for", each) for each in forwarded), proxies=proxies)
    return scope["client"][0] if scope["client"] else None


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (PEER, [], PEER),
        (PEER, [b"203.0.113.9"], "203.0.113.9"),
        (PEER, [b"198.51.100.7, 203.0.113.9"], "203.0.113.9"),  # the first is the client's own invention
        (PEER, [b"198.51.100.7,203.0.113.9, 10.1.2.3"], "203.0.113.9"),
        (PEER, [b"198.51.100.7", b"203.0.113.9"], "203.0.113.9"),
        (PEER, [b"203.0.113.9", b"10.1.2.3"], "203.0.113.9"),
        (PEER, [b"10.9.9.9, 10.1.2.3"], "10.9.9.9"),  # nobody but proxies
        (PEER, [b"127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        (PEER, [b"203.0.113.9:4711"], "203.0.113.9"),
        (PEER, [b"[2001:db9::7]:4711"], "2001:db9::7"),
        (PEER, [b"2001:DB9:0::7"], "2001:db9::7"),
        (PEER, [b"::ffff:203.0.113.9"], "203.0.113.9"),
        (PEER, [b"198.51.100.7, unknown"], PEER),
        (PEER, [b"198.51.100.7, unknown, 10.1.2.3"], "10.1.2.3"),
        (PEER, [b"", b" , "], PEER),
        (PEER, [b"999.0.0.1"], PEER),
        ("::ffff:127.0.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("10.200.0.1", [b"203.0.113.9"], "203.0.113.9"),
        ("2001:db8::1", [b"203.0.113.9"], "203.0.113.9"),
        ("203.0.113.9", [b"198.51.100.7"], "203.0.113.9"),
        ("203.0.113.9", [b"127.0.0.1"], "203.0.113.9"),
        ("11.0.0.1", [b"198.51.100.7"], "11.0.0.1"),
        ("not-an-address", [b"198.51.100.7"], "not-an-address"),
    ],
)
def test_the_address_of_a_client(peer: str, forwarded: list[bytes], expected: str) -> None:
    """From the right, over the proxies that are trusted, to the first that is not."""
    assert address(peer, *forwarded) == expected


def test_peers_on_unix_sockets() -> None:
    """They are believed when `unix` is named; a peer without address on a port is no such peer."""
    on_unix = TrustedProxies(["unix"])
    assert address(None, b"203.0.113.9", proxies=on_unix) == "203.0.113.9"
    assert address(None, b"203.0.113.9") is None
    assert address(PEER, b"203.0.113.9", proxies=on_unix) == PEER
    scope: dict[str, Any] = {
        "type": "websocket", "client": None, "server": ("127.0.0.1", 80),
        "headers": [(b"x-forwarded-for", b"203.0.113.9")],
    }  # fmt: skip
    on_unix.settle(scope)
    assert scope["client"] is None
    scope = {**scope, "server": ("/run/node.sock", None), "headers": [(b"x-forwarded-for", b"203.0.113.9")]}
    on_unix.settle(scope)
    assert scope["client"] == ("203.0.113.9", 0)


@pytest.mark.parametrize(
    ("peer", "values", "kind", "expected"),
    [
        (PEER, [b"https"], "websocket", "wss"),
        (PEER, [b"https"], "http", "https"),
        (PEER, [b"WSS"], "websocket", "wss"),
        (PEER, [b"http"], "http", "http"),
        (PEER, [b"https, http"], "http", "http"),  # the last one wrote the proxy next to us
        (PEER, [b"https", b"http"], "http", "http"),
        (PEER, [b"gopher"], "http", "http"),
        (PEER, [], "websocket", "ws"),
        ("203.0.113.9", [b"https"], "websocket", "ws"),
        ("203.0.113.9", [b"https"], "http", "http"),
    ],
)
def test_whether_a_client_uses_tls(peer: str, values: list[bytes], kind: str, expected: str) -> None:
    """What a trusted proxy says, else what the socket itself is."""
    assert settled(peer, *((b"x-forwarded-proto", each) for each in values), kind=kind)["scheme"] == expected


def test_the_scheme_of_the_socket_stays_without_a_word_of_a_proxy() -> None:
    """TLS that ends here is TLS, and nobody who may not can take it away."""
    for headers in ([], [(b"x-forwarded-proto", b"http")]):
        scope: dict[str, Any] = {"type": "http", "client": ("203.0.113.9", 1), "scheme": "https", "headers": headers}
        PROXIES.settle(scope)
        assert scope["scheme"] == "https"


def test_what_strangers_write_in_the_name_of_proxies_is_gone() -> None:
    """So that nothing behind us believes it: Django's SECURE_PROXY_SSL_HEADER, or a project's own code."""
    written = [
        (name, b"x")
        for name in (
            b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip",
            b"forwarded",
        )
    ]  # fmt: skip
    assert settled("203.0.113.9", *written)["headers"] == [(b"host", b"chat.example")]
    left = [name for name, _ in settled(PEER, *written)["headers"]]
    assert left == [b"host", b"x-forwarded-host", b"x-forwarded-port", b"x-real-ip", b"forwarded"]


def test_a_second_look_changes_nothing() -> None:
    """The address that was found is not a peer that could say more."""
    scope = settled(PEER, (b"x-forwarded-for", b"203.0.113.9"), (b"x-forwarded-proto", b"https"))
    before = dict(scope)
    PROXIES.settle(scope)
    assert scope == before


@pytest.mark.parametrize(
    "name", ["", "proxy.example", "10.0.0.0/33", "10.0.0.1/8", "10.0.0", "*", "unix:/run/x", "::g"]
)
def test_what_is_no_proxy(name: str) -> None:
    """It is refused at the start, with what would do."""
    with pytest.raises(ValueError, match="must be addresses, networks"):
        read_network(name)
