"""Where the Kafka brokers are, and what to ask of them: `hosts` and the options of the layer's CONFIG."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

DEFAULT_PORT = 9092
DEFAULT_URL = f"kafka://localhost:{DEFAULT_PORT}"
TLS_SCHEME = "kafka+ssl"
SCHEMES = ("kafka", TLS_SCHEME)
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_OF_THE_ADDRESS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "sasl_mechanism")


@dataclass(frozen=True, slots=True)
class Address:
    """One cluster: the brokers to ask first, and how to talk to all of them."""

    hosts: tuple[tuple[str, int], ...]
    username: str = ""
    password: str = field(default="", repr=False)
    mechanism: str = "PLAIN"
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:  # goes into logs: no credentials
        return ",".join(f"{host}:{port}" for host, port in self.hosts)


@dataclass(frozen=True, slots=True)
class Options:
    """What the layer asks of the cluster; each may stand in CONFIG or in the query of the URL."""

    broadcast_topic: str = "websocket-broadcast"
    room_topic: str = "websocket-room"
    direct_topic: str = "websocket-direct"
    partitions: int = 4  # of a topic that the layer creates
    replication: int = 0  # copies of such a topic; 0: three, or as many as there are brokers
    retention_seconds: int = 600  # of such a topic: nothing older is ever read
    acks: str = "all"  # "all" in-sync replicas, or the leader alone ("1")
    linger_ms: int = 2  # after a request to a broker, the next one leaves so much later; what is published gathers
    fetch_max_wait_ms: int = 500  # an idle broker answers after so long; one that has something answers at once
    max_lag: int = 100_000  # messages of a partition; a node that is further behind skips them, and says so

    def __post_init__(self) -> None:
        if self.acks not in ("all", "1"):
            raise ValueError(f"acks must be 'all' or '1', not {self.acks!r}")
        if len(set(self.topics)) < 3 or not all(self.topics):
            raise ValueError("the three topics need three names")
        for name, least in (("partitions", 1), ("replication", 0), ("retention_seconds", 60), ("linger_ms", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more")
        if not 1 <= self.fetch_max_wait_ms <= 1000 or self.max_lag < 1:
            raise ValueError("fetch_max_wait_ms must be 1 to 1000, and max_lag 1 or more")

    @property
    def topics(self) -> tuple[str, str, str]:
        return self.broadcast_topic, self.room_topic, self.direct_topic


def parse_hosts(hosts: Sequence[str] | None) -> tuple[Address, dict[str, Any]]:
    """`hosts`: URLs (`kafka://user:password@host:9092,host:9092/?option=value`) or `host:port`, all of one cluster.

    Returns the options of the URLs as well.
    """
    if isinstance(hosts, str | bytes):
        raise ValueError("hosts must be a list, even if there is only one")
    parts = [_split(host) for host in hosts or [DEFAULT_URL]]
    found = tuple(pair for part in parts for pair in _hosts_of(part))
    query = {name: value for part in parts for name, value in parse_qsl(part.query, strict_parsing=bool(part.query))}
    own = {name: query.pop(name) for name in _OF_THE_ADDRESS if name in query}
    mechanism = own.pop("sasl_mechanism", "PLAIN")
    if mechanism not in MECHANISMS:
        raise ValueError(f"sasl_mechanism must be one of {', '.join(MECHANISMS)}")
    wants_tls = any(part.scheme == TLS_SCHEME for part in parts)
    if own and not wants_tls:
        raise ValueError(f"{', '.join(own)} needs the scheme {TLS_SCHEME}")
    first = parts[0]
    address = Address(
        hosts=found,
        username=unquote(first.username or ""),
        password=unquote(first.password or ""),
        mechanism=mechanism,
        tls=_tls(own) if wants_tls else None,
    )
    return address, _typed(query)


def _split(host: str) -> SplitResult:
    parts = urlsplit(host if "://" in host else f"kafka://{host}")
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a Kafka URL begins with {SCHEMES[0]}:// or {SCHEMES[1]}://")
    return parts


def _hosts_of(parts: SplitResult) -> list[tuple[str, int]]:
    """urlsplit knows one host; here commas separate several."""
    pairs = []
    for each in parts.netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{each.strip()}")
        try:
            port = one.port
        except ValueError:  # it repeats what a password with a slash left there
            port = 0
        if not one.hostname or port == 0 or one.username is not None:
            raise ValueError("a Kafka URL needs host:port, several separated by commas")
        pairs.append((one.hostname, port or DEFAULT_PORT))
    if parts.path.strip("/"):
        raise ValueError("a Kafka URL has no path")
    return pairs


def _tls(files: Mapping[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.get("ssl_cafile"))
    if "ssl_certfile" in files:
        context.load_cert_chain(files["ssl_certfile"], files.get("ssl_keyfile"))
    return context


def _typed(query: Mapping[str, str]) -> dict[str, Any]:
    """Options of a query, as the types that they have."""
    kinds = {each.name: each.type for each in fields(Options)}
    if unknown := set(query) - set(kinds):
        raise ValueError(f"unknown options of a Kafka URL: {', '.join(sorted(unknown))}")
    return {name: int(value) if kinds[name] == "int" else value for name, value in query.items()}
