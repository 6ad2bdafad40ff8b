"""Whether a page may connect, for everything that a header can say."""

from __future__ import annotations

import pytest

from realtime.origins import OriginRules, judge_origin, read_allowed

OURS = ("chat.example", "chat.example:8443", "127.0.0.1", "[::1]")


def is_own_host(host: str) -> bool:
    return host in ("chat.example", "127.0.0.1", "[::1]")


def rules(*allowed: str, null: bool = False, missing: bool = True) -> OriginRules:
    named = [read_allowed(each) for each in allowed]
    return OriginRules(
        is_own_host=is_own_host,
        allowed=frozenset(site for site in named if site is not None),
        any_is_allowed=None in named,
        null_is_allowed=null,
        missing_is_allowed=missing,
    )


def judge(
    origin: bytes | list[bytes], host: bytes | list[bytes] = b"chat.example", scheme: str = "wss", **options: bool
) -> str | None:
    origins = origin if isinstance(origin, list) else [origin]
    hosts = host if isinstance(host, list) else [host]
    headers = [*((b"host", each) for each in hosts), *((b"origin", each) for each in origins)]
    return judge_origin(headers, scheme, rules(**options))


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (b"https://chat.example", b"chat.example", "wss"),
        (b"https://chat.example", b"chat.example", "https"),
        (b"http://chat.example", b"chat.example", "ws"),
        (b"http://chat.example", b"chat.example", "http"),
        (b"HTTPS://CHAT.EXAMPLE", b"chat.example", "wss"),
        (b"https://chat.example", b"CHAT.example", "wss"),
        (b"https://chat.example:443", b"chat.example", "wss"),
        (b"https://chat.example", b"chat.example:443", "wss"),
        (b"http://chat.example:80", b"chat.example", "ws"),
        (b"https://chat.example:8443", b"chat.example:8443", "wss"),
        (b"http://127.0.0.1:8080", b"127.0.0.1:8080", "ws"),
        (b"http://[::1]:8080", b"[::1]:8080", "ws"),
        (b"http://[0:0:0:0:0:0:0:1]:8080", b"[::1]:8080", "ws"),
        (b"https://chat.example.", b"chat.example.", "wss"),
    ],
)
def test_a_page_of_our_own_site_may(origin: bytes, host: bytes, scheme: str) -> None:
    """The same scheme, host and port, however they are written."""
    assert judge(origin, host, scheme) is None


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        (b"https://evil.example", b"chat.example", "wss"),
        (b"https://chat.example.evil.example", b"chat.example", "wss"),
        (b"https://evilchat.example", b"chat.example", "wss"),
        (b"https://www.chat.example", b"chat.example", "wss"),
        (b"https://example", b"chat.example", "wss"),
        (b"http://chat.example", b"chat.example", "wss"),  # a page that anybody on its way could have changed
        (b"https://chat.example", b"chat.example", "ws"),
        (b"https://chat.example:8443", b"chat.example", "wss"),
        (b"https://chat.example", b"chat.example:8443", "wss"),
        (b"http://chat.example:443", b"chat.example", "wss"),
        (b"https://chat.example.", b"chat.example", "wss"),
        (b"https://chat.example", b"chat.example.", "wss"),
        (b"http://[::1]", b"[::2]", "ws"),
        (b"http://127.0.0.1", b"[::1]", "ws"),
        (b"ws://chat.example", b"chat.example", "ws"),
        (b"chrome-extension://chat.example", b"chat.example", "wss"),
    ],
)
def test_a_page_of_another_site_may_not(origin: bytes, host: bytes, scheme: str) -> None:
    """One of the three is another one."""
    assert judge(origin, host, scheme) == "another site"


@pytest.mark.parametrize(
    "origin",
    [
        b"",
        b"chat.example",
        b"https:chat.example",
        b"https:/chat.example",
        b"https://",
        b"https://chat.example/",
        b"https://chat.example/path",
        b"https://chat.example?query",
        b"https://chat.example#fragment",
        b"https://chat.example\\@evil.example",
        b"https://chat.example@evil.example",
        b"https://user:password@chat.example",
        b"https://chat.example:",
        b"https://chat.example:0",
        b"https://chat.example:0443",
        b"https://chat.example:65536",
        b"https://chat.example:443:443",
        b"https://chat.example:x",
        b"https://chat.example,https://evil.example",
        b"https://chat.example, https://chat.example",
        b"https://chat.example https://evil.example",
        b"https://*.example",
        b"*",
        b"Null",
        b"https://[",
        b"https://[::1",
        b"https://[::1]x",
        b"https://[fe80::1%25eth0]",
        b"https://[:::1]",
        b" https://chat.example",
        b"https://chat.example ",
        b"https://chat.example\t",
        b"https://chat.example\n",
        b"https://chat.example\r",
        b"https://chat.example\x00",
        b"https://chat.example\x0b",
        b"https://chat\x0b.example",
        b"https://chat.example\x85",
        b"\x85https://chat.example",
        b"https://chat.example\xa0",
        b"https://ch\xc3\xa4t.example",
        b"https://chat%2eexample",
        b"javascript:alert(1)",
        b"https://" + b"a" * 100_000 + b"/",
    ],
)
def test_what_no_browser_writes_is_refused(origin: bytes) -> None:
    """Also where every origin is allowed."""
    assert judge(origin) == "malformed"
    assert judge_origin([(b"origin", origin)], "wss", rules("*")) == "malformed"


@pytest.mark.parametrize("scheme", ["ws", "wss"])
@pytest.mark.parametrize("host", [b"rebound.evil.example", b"rebound.evil.example:8080", b"10.0.0.1"])
def test_a_foreign_name_for_our_address_is_no_site_of_ours(host: bytes, scheme: str) -> None:
    """Origin and Host agree, as they do when an attacker's name leads to us; but nobody serves that host."""
    origin = (b"https://" if scheme == "wss" else b"http://") + host
    assert judge(origin, host, scheme) == "a host that is not ours"


@pytest.mark.parametrize(
    "hosts", [[], [b"chat.example", b"chat.example"], [b"chat.example", b"evil.example"]], ids=["none", "same", "two"]
)
def test_without_one_host_there_is_no_own_site(hosts: list[bytes]) -> None:
    """Whichever of them a proxy looked at."""
    assert judge(b"https://chat.example", hosts) == "no host or several"


@pytest.mark.parametrize(
    "host", [b"", b"chat.example,evil.example", b"user@chat.example", b"chat.example/", b"chat.example\x0b", b"[::1"]
)
def test_a_host_that_is_none_is_no_site(host: bytes) -> None:
    """Nothing equals it."""
    assert judge(b"https://chat.example", host) == "another site"


def test_several_origins_are_none() -> None:
    """Also twice the same."""
    ours, evil = b"https://chat.example", b"https://evil.example"
    for origins in ([ours, ours], [ours, evil], [evil, ours], [ours, b"null"]):
        assert judge(origins) == "several origins"
        assert judge_origin([(b"origin", each) for each in origins], "wss", rules("*")) == "several origins"


def test_null_and_missing_by_setting() -> None:
    """`*` does not speak of them."""
    assert judge(b"null") == "null"
    assert judge_origin([(b"origin", b"null")], "wss", rules("*")) == "null"
    assert judge(b"null", null=True) is None
    assert judge([]) is None
    assert judge([], missing=False) == "missing"
    assert judge_origin([], "wss", rules("*", missing=False)) == "missing"


@pytest.mark.parametrize("said", [b"cross-site", b"same-site", b"Cross-Site"])
def test_a_page_that_hides_its_origin_is_still_one(said: bytes) -> None:
    """An image of another site, say: its request has no origin, but the browser says whose page asks."""
    headers = [(b"host", b"chat.example"), (b"sec-fetch-site", said)]
    assert judge_origin(headers, "https", rules()) == "missing, from another site"
    assert judge_origin([(b"sec-fetch-site", b"same-origin")], "https", rules()) is None


def test_pages_that_are_allowed_by_name() -> None:
    """Exactly these, compared as origins are: not their other ports, schemes or subdomains."""
    allowed = rules("https://Shop.example/", "http://localhost:3000", "capacitor://localhost")
    for origin in (b"https://shop.example", b"https://shop.example:443", b"http://localhost:3000"):
        assert judge_origin([(b"origin", origin)], "wss", allowed) is None
    assert judge_origin([(b"origin", b"capacitor://localhost")], "wss", allowed) is None
    for origin in (
        b"http://shop.example", b"https://shop.example:8443", b"https://www.shop.example", b"http://localhost",
        b"https://shop.example.evil.example", b"capacitor://localhost:1",
    ):  # fmt: skip
        assert judge_origin([(b"origin", origin), (b"host", b"chat.example")], "wss", allowed) == "another site"


def test_every_page_may_where_all_are_allowed() -> None:
    """Whatever the host."""
    assert judge_origin([(b"origin", b"https://evil.example")], "wss", rules("*")) is None


@pytest.mark.parametrize(
    "value", ["", "chat.example", "https://chat.example/path", "https://*.example", "null", "https://a b", "file://"]
)
def test_what_cannot_be_allowed_by_name(value: str) -> None:
    """A setting that no origin could equal is refused at the start."""
    with pytest.raises(ValueError, match="must be origins like"):
        read_allowed(value)
