"""Where the Redis servers are: the `hosts` of a channel layer's CONFIG, read as channels_redis reads them."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio.connection import SSLConnection, parse_url

Host = str | tuple[str, int] | list[Any] | Mapping[str, Any]

DEFAULT_URL = "redis://localhost:6379"
SENTINEL_PORT = 26379
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")

# Options of redis-py's connections that mean nothing here: our own connections have their own, fixed ways.
_IGNORED = {
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_keepalive_options", "socket_read_size"),
    *("retry", "retry_on_timeout", "retry_on_error", "timeout", "max_connections", "health_check_interval"),
    *("client_name", "decode_responses", "encoding", "encoding_errors", "protocol"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """One shard: a server, or the name of a master that Sentinels know."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""  # a unix socket, instead of host and port
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: ssl.SSLContext | None = None
    master_name: str = ""  # with `sentinels`: ask them for host and port before each connection
    sentinels: tuple[Address, ...] = ()

    def __str__(self) -> str:  # goes into logs: no credentials
        if self.sentinels:
            return f"{self.master_name}@{','.join(map(str, self.sentinels))}"
        return self.path or f"{self.host}:{self.port}"


def parse_hosts(hosts: Sequence[Host] | None) -> list[Address]:
    """`hosts` as channels_redis takes them: URLs, (host, port) pairs, or dicts, also with `sentinels`."""
    if isinstance(hosts, str | bytes):
        raise ValueError("hosts must be a list, even if there is only one")
    return [_parse_host(host) for host in hosts or [DEFAULT_URL]]


def _parse_host(host: Host) -> Address:
    if isinstance(host, str):
        return _from_sentinel_url(host) if is_sentinel_url(host) else _from_options(_of_url(host))
    if not isinstance(host, Mapping):
        return Address(host=str(host[0]), port=int(host[1]))
    options = dict(host)
    if "address" in options:
        return _from_options({**_of_url(options.pop("address")), **options})
    if "master_name" in options or "sentinels" in options:
        return _from_sentinels(options)
    return _from_options(options)


def is_sentinel_url(url: str) -> bool:
    """Whether a URL names Sentinels instead of a server."""
    return url.split("://", 1)[0] in SENTINEL_SCHEMES


def _from_sentinel_url(url: str) -> Address:
    """`redis+sentinel://user:password@host:26379,host:26379/name of the master/0?sentinel_password=…`.

    With `rediss` the master and the Sentinels speak TLS. Credentials are the master's. Raises ValueError.
    """
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    master_name, _, db = unquote(parts.path).strip("/").partition("/")
    if not master_name:
        raise ValueError("the name of the master must follow the Sentinels, as a path")
    if db and not db.isdecimal():
        raise ValueError("after the name of the master only the number of a database may stand")
    scheme = parts.scheme.partition("+")[0]
    query = parse_qsl(parts.query, keep_blank_values=True)
    own = [(name.removeprefix("sentinel_"), value) for name, value in query if name.startswith(("sentinel_", "ssl_"))]
    options = _options(scheme, [(name, value) for name, value in query if not name.startswith("sentinel_")])
    options |= {"username": unquote(username), "password": unquote(password), "db": db}
    options |= {"sentinels": [_sentinel(host) for host in hosts.split(",")], "sentinel_kwargs": _options(scheme, own)}
    return _from_sentinels(options | {"master_name": master_name})


def _options(scheme: str, query: list[tuple[str, str]]) -> dict[str, Any]:
    """The options of a query, converted by redis-py."""
    options = dict(parse_url(f"{scheme}://localhost?{urlencode(query)}"))
    del options["host"]
    return options


def _sentinel(host: str) -> tuple[str, int]:
    parts = SplitResult("", host, "", "", "")
    try:
        port = parts.port
    except ValueError:  # it repeats what a password with a slash left there
        port = 0
    if not parts.hostname or port == 0 or parts.username is not None:
        raise ValueError("each Sentinel is host:port, separated by commas") from None
    return parts.hostname, port or SENTINEL_PORT


def _of_url(url: str) -> dict[str, Any]:
    """ValueError for what is no URL of a Redis; it does not repeat the URL, which may hold a password."""
    try:
        return dict(parse_url(url))
    except ValueError:
        raise ValueError("a Redis host is redis://user:password@host:port/0, rediss://… or unix://…") from None


def _from_sentinels(options: dict[str, Any]) -> Address:
    own = options.pop("sentinel_kwargs", None) or {}
    sentinels = tuple(
        _from_options({**own, "host": sentinel[0], "port": sentinel[1]}) for sentinel in options.pop("sentinels")
    )
    return _from_options(options, master_name=options.pop("master_name"), sentinels=sentinels)


def _from_options(options: dict[str, Any], *, master_name: str = "", sentinels: tuple[Address, ...] = ()) -> Address:
    """An Address from redis-py's connection options; an option that would silently do nothing is an error."""
    wants_tls = bool(options.pop("ssl", False)) | (options.pop("connection_class", None) is SSLConnection)
    tls = {name: options.pop(name) for name in list(options) if name.startswith("ssl_")}
    address = Address(
        host=str(options.pop("host", None) or "localhost"),
        port=int(options.pop("port", None) or 6379),
        path=str(options.pop("path", None) or ""),
        username=str(options.pop("username", None) or ""),
        password=str(options.pop("password", None) or ""),
        db=int(options.pop("db", None) or 0),
        tls=SSLConnection(**tls).ssl_context.get() if wants_tls else None,
        master_name=master_name,
        sentinels=sentinels,
    )
    if unknown := set(options) - _IGNORED:
        raise ValueError(f"unknown options of a Redis host: {', '.join(sorted(unknown))}")
    return address
