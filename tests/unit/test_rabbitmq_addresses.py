"""AMQP URLs."""

from __future__ import annotations

import ssl

import pytest

from realtime.layers.rabbitmq_addresses import parse_url, parse_urls


def test_every_part_of_a_url_counts() -> None:
    """User, password and virtual host are unquoted; what is missing has RabbitMQ's own defaults."""
    full = parse_url("amqp://us%40er:p%2Fw@broker:5673/my%2Fhost")
    assert (full.host, full.port, full.user, full.password) == ("broker", 5673, "us@er", "p/w")
    assert full.virtual_host == "my/host"
    [short] = parse_urls(["amqp://broker"])
    assert (short.port, short.user, short.password, short.virtual_host, short.tls) == (
        5672,
        "guest",
        "guest",
        "/",
        None,
    )
    assert str(full) == "broker:5673"


def test_tls_is_verified_unless_told_otherwise() -> None:
    """amqps:// has its own port, checks certificate and host, and can be told not to."""
    strict = parse_url("amqps://broker")
    assert strict.port == 5671
    assert strict.tls is not None
    assert (strict.tls.verify_mode, strict.tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    lax = parse_url("amqps://broker/?verify=verify_none&server_name_indication=other")
    assert lax.tls is not None
    assert (lax.tls.verify_mode, lax.server_name) == (ssl.CERT_NONE, "other")


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hunter2@broker",
        "amqp://u:hunter2@",
        "amqp://u:hunter2@broker/?heartbaet=3",
        "amqp://u:hunter2@broker/?verify=verify_none",
        "amqps://u:hunter2@broker/?verify=maybe",
        "amqp://u:hunter2@broker/a/b",
    ],
)
def test_what_would_do_nothing_is_refused(url: str) -> None:
    """A URL of another kind or with an unknown option is an error, which does not repeat the password."""
    with pytest.raises(ValueError, match=r"RabbitMQ|verify|virtual") as refusal:
        parse_url(url)
    assert "hunter2" not in str(refusal.value)


def test_hosts_are_a_list() -> None:
    """A single URL in place of the list is an error, as for the Redis layer."""
    with pytest.raises(ValueError, match="list"):
        parse_urls("amqp://broker")
