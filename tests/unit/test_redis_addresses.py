"""Where Redis servers and Sentinels are, as URLs say it."""

from __future__ import annotations

from realtime.layers.addresses import Address, parse_hosts


def test_a_url_of_sentinels() -> None:
    """Credentials and the database are the master's; those of the Sentinels are options."""
    [address] = parse_hosts(["redis+sentinel://app:s%40fe@a:1,b,[::1]:3/the%20one/2?sentinel_password=watch"])
    assert (address.master_name, address.db) == ("the one", 2)
    assert (address.username, address.password) == ("app", "s@fe")
    assert [(each.host, each.port, each.password) for each in address.sentinels] == [
        ("a", 1, "watch"),
        ("b", 26379, "watch"),
        ("::1", 3, "watch"),
    ]
    assert str(address) == "the one@a:1,b:26379,::1:3"


def test_sentinels_over_tls() -> None:
    """With `rediss` the master and the Sentinels are spoken to over TLS."""
    [address] = parse_hosts(["rediss+sentinel://a/main?ssl_check_hostname=false"])
    assert address.tls is not None
    assert [each.tls is not None for each in address.sentinels] == [True]
    [plain] = parse_hosts(["redis+sentinel://a/main"])
    assert plain == Address(master_name="main", sentinels=(Address(host="a", port=26379),))
