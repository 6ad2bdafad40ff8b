"""Where the RabbitMQ servers are: `amqp://` and `amqps://` URLs, as RabbitMQ's own documentation has them."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_URL = "amqp://guest:guest@localhost:5672/"
PORTS = {"amqp": 5672, "amqps": 5671}
TLS_OPTIONS = frozenset({"cacertfile", "certfile", "keyfile", "verify", "server_name_indication"})


@dataclass(frozen=True, slots=True)
class RabbitAddress:
    """One server; several of them are the members of one RabbitMQ cluster."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    virtual_host: str
    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # to expect in the certificate, instead of the host

    def __str__(self) -> str:  # goes into logs: no credentials
        return f"{self.host}:{self.port}"


def parse_urls(urls: Sequence[str] | None) -> list[RabbitAddress]:
    """ValueError for what is no AMQP URL; credentials are never repeated in it."""
    if isinstance(urls, str | bytes):
        raise ValueError("hosts must be a list, even if there is only one")
    return [parse_url(url) for url in urls or [DEFAULT_URL]]


def parse_url(url: str) -> RabbitAddress:
    """`amqp[s]://user:password@host:port/virtual%20host?cacertfile=…&verify=verify_none`; all but the host may miss."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("a RabbitMQ host is amqp://user:password@host:port/virtual-host, or amqps://…")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    is_tls = parts.scheme == "amqps"
    if unknown := set(options) - (TLS_OPTIONS if is_tls else set()):
        raise ValueError(f"unknown options of a RabbitMQ host: {', '.join(sorted(unknown))}")
    return RabbitAddress(
        host=parts.hostname,
        port=_port(parts) or PORTS[parts.scheme],
        user=unquote(parts.username or "guest"),
        password=unquote(parts.password or "guest"),
        virtual_host=_virtual_host(parts),
        tls=_tls(options) if is_tls else None,
        server_name=options.get("server_name_indication") if is_tls else None,
    )


def _port(parts: SplitResult) -> int | None:
    """ValueError for none; urlsplit's own would repeat what a password with a slash left there."""
    try:
        return parts.port
    except ValueError:
        raise ValueError("the port of a RabbitMQ host is a number; / and @ in a password are %2F and %40") from None


def _virtual_host(parts: SplitResult) -> str:
    """What follows the first slash; `/` itself when nothing does."""
    path = parts.path[1:]
    if "/" in path:
        raise ValueError("a slash in the name of a virtual host is written %2F")
    return unquote(path) or "/"


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=options.get("cacertfile"))
    if options.get("verify", "verify_peer") == "verify_none":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif options.get("verify", "verify_peer") != "verify_peer":
        raise ValueError("verify is verify_peer or verify_none")
    if "certfile" in options:
        context.load_cert_chain(options["certfile"], options.get("keyfile"))
    return context
