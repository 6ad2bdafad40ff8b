"""Every setting: its default, unit and reason in one place; values come from ``settings.REALTIME``.

Defaults are those of an installation that strangers reach. Some settings have another one in development, where
nobody but the developer does.

Inside the application settings travel as one frozen ``Settings`` object or as plain keyword arguments, never as the
Django settings. docs/settings.md has the table; a test compares the two. The file is long because it is that table.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from realtime.exceptions import RealtimeError
from realtime.origins import read_allowed
from realtime.proxies import read_network
from realtime.tokens import BadKey, read_keys

MIB = 1024 * 1024
PRODUCTION = "production"
DEVELOPMENT = "development"


class BadSetting(RealtimeError):
    """A value in settings.REALTIME is unknown, of the wrong type, or out of its bounds."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"REALTIME[{name!r}] {problem}")
        self.name = name
        self.problem = problem


def _setting(
    default: Any,
    reason: str,
    *,
    unit: str = "",
    least: float = 0,
    most: float = float("inf"),
    pattern: str = "",
    in_development: Any = None,
    read: Callable[[str], object] | None = None,
    is_secret: bool = False,
) -> Any:
    """``read``: raises ValueError for what must not be in a list."""
    metadata = {"reason": reason, "unit": unit, "least": least, "most": most, "in_development": in_development}
    metadata["read"] = read
    metadata["pattern"] = pattern
    metadata["is_secret"] = is_secret
    if isinstance(default, tuple):
        return field(default_factory=lambda: default, metadata=metadata, repr=not is_secret)
    return field(default=default, metadata=metadata, repr=not is_secret)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of one node. Upper-case names in ``settings.REALTIME``; lower-case here."""

    defaults: str = _setting(
        "", "`production` or `development`: which defaults hold (empty: those of development with Django's DEBUG)"
    )
    layer: str = _setting("default", "the alias in CHANNEL_LAYERS that joins the nodes")
    path_prefix: str = _setting(
        "", "begins the paths that nodes serve themselves: `/live` makes `/live/ws/` and `/live/socket.io/`",
        pattern=r"(/[A-Za-z0-9._~-]+)*",
    )  # fmt: skip
    metric_prefix: str = _setting(
        "", "begins the name of every metric, as in `live_`", pattern=r"([A-Za-z_][A-Za-z0-9_]*)?"
    )
    table_prefix: str = _setting(
        "realtime_", "begins the names of tables and indexes; to be chosen before the first `migrate`",
        pattern=r"[a-z][a-z0-9_]{0,9}",
    )  # fmt: skip
    node_name: str = _setting("", "what people call this node; its id adds a random suffix (empty: the host name)")
    node_address: str = _setting("", "where operators reach this node, as announced to the others")
    heartbeat_seconds: float = _setting(
        5.0, "how often a node tells the others that it lives", unit="s", least=0.05, most=60
    )
    node_timeout_seconds: float = _setting(
        15.0,
        "silence after which a node is taken for dead: three lost heartbeats",
        unit="s",
        least=0.1,
        most=600,
    )
    publish_timeout_seconds: float = _setting(
        2.0,
        "a publish that the backplane has not taken by then is `unavailable`",
        unit="s",
        least=0.1,
        most=30,
    )
    receipt_timeout_seconds: float = _setting(
        2.0, "a private message not confirmed by then is `unknown_recipient`", unit="s", least=0.1, most=30
    )
    members_timeout_seconds: float = _setting(
        2.0, "how long the member list of a room waits for the other nodes", unit="s", least=0.1, most=30
    )
    members_interval_ms: int = _setting(
        100, "changes of a room's members are gathered for that long", unit="ms", least=10, most=10_000
    )
    message_max_bytes: int = _setting(
        MIB,
        "a larger message or frame ends the connection with 1009",
        unit="bytes",
        least=1024,
        most=64 * MIB,
    )
    command_max_bytes: int = _setting(
        MIB, "a larger command is answered with `too_large`", unit="bytes", least=256, most=64 * MIB
    )
    rooms_per_connection_max: int = _setting(128, "rooms that one connection may be in", least=1, most=100_000)
    backlog_max_bytes: int = _setting(
        MIB,
        "more than that waiting for backlog_grace_seconds makes a slow consumer",
        unit="bytes",
        least=4096,
    )
    backlog_grace_seconds: float = _setting(
        1.0, "how long a backlog may exceed backlog_max_bytes", unit="s", least=0.1, most=60
    )
    backlog_hard_max_bytes: int = _setting(
        4 * MIB, "more than that waiting at any moment makes a slow consumer", unit="bytes", least=4096
    )
    inbox_max_bytes: int = _setting(
        256 * 1024,
        "a client with more commands waiting than that is not read until half is handled",
        unit="bytes",
    )
    batch_window_ms: float = _setting(
        0.0, "wait that long for more publications before a batch is delivered (0: only what came in one read)",
        unit="ms", most=10,
    )  # fmt: skip
    batch_max_messages: int = _setting(100, "messages of one room that leave in one write", least=1, most=10_000)
    batch_max_bytes: int = _setting(
        128 * 1024, "bytes of one room that leave in one write", unit="bytes", least=1024, most=16 * MIB
    )
    deliver_slice_ms: float = _setting(
        5.0, "a big room is served for that long before other work gets its turn", unit="ms", least=0.1, most=1_000
    )
    connections_max: int = _setting(
        10_000, "connections of one node; at that many it evicts, or refuses with 503", least=1, most=1_000_000
    )
    evict_fraction: float = _setting(
        0.1, "share of the connections that one eviction closes at most, the longest inactive", least=0.001, most=1
    )
    evict_inactive_seconds: float = _setting(
        10.0, "who has sent something within that time is not evicted", unit="s", most=3600
    )
    idle_timeout_seconds: float = _setting(
        300.0, "a client silent for that long is closed with 1001 (0: never)", unit="s", most=86_400
    )
    ping_is_activity: bool = _setting(True, "whether a client that sends nothing but the command `ping` is active")
    pong_is_activity: bool = _setting(
        False, "whether a client that sends nothing but pings and pongs of the WebSocket protocol is active"
    )
    commands_per_second: float = _setting(
        20.0, "commands that one connection may send in the long run (0: any number)", most=1_000_000, in_development=0
    )
    commands_burst: int = _setting(
        200, "commands of one connection at once: a client that comes back joins all its rooms", least=1, most=1_000_000
    )
    user_commands_per_second: float = _setting(
        40.0, "commands of all connections of one user, on all nodes together (0: any number)", most=1_000_000,
        in_development=0,
    )  # fmt: skip
    user_commands_burst: int = _setting(
        400, "commands of one user at once, on each node: two devices that come back", least=1, most=1_000_000
    )
    address_commands_per_second: float = _setting(
        1_000.0, "commands of all connections from one address, on one node: an office behind one (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    address_commands_burst: int = _setting(
        10_000, "commands from one address at once: 50 clients that come back", least=1, most=1_000_000
    )
    joins_per_second: float = _setting(
        5.0, "rooms that one connection may join in the long run: each may cost the backplane (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    joins_burst: int = _setting(
        150, "rooms that one connection may join at once: more than rooms_per_connection_max", least=1, most=1_000_000
    )
    broadcasts_per_second: float = _setting(
        1.0, "broadcasts of one connection in the long run: each costs every node all its clients (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    broadcasts_burst: int = _setting(10, "broadcasts of one connection at once", least=1, most=1_000_000)
    refusals_max: int = _setting(
        100, "commands refused for a rate within refusals_seconds, after which a connection is closed with 1008",
        least=1, most=1_000_000,
    )  # fmt: skip
    refusals_seconds: float = _setting(10.0, "the time in which refusals_max counts", unit="s", least=0.1, most=3600)
    address_connects_per_second: float = _setting(
        10.0, "handshakes from one address that one node takes in the long run; 503 beyond (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    address_connects_burst: int = _setting(
        200, "handshakes from one address at once: an office comes back after a restart", least=1, most=1_000_000
    )
    node_connects_per_second: float = _setting(
        500.0, "handshakes that one node takes in the long run, half of a core; 503 beyond (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    node_connects_burst: int = _setting(
        2_000, "handshakes that one node takes at once: the clients of one that died", least=1, most=1_000_000
    )
    address_connections_max: int = _setting(
        200, "connections from one address to one node; 503 beyond (0: any number)", most=1_000_000,
        in_development=10_000,
    )  # fmt: skip
    user_connections_max: int = _setting(
        50, "connections of one user to one node: tabs and devices; 1008 beyond (0: any number)", most=1_000_000,
        in_development=10_000,
    )  # fmt: skip
    rate_keys_max: int = _setting(
        100_000,
        "addresses, and users, without a connection of which is remembered what they spent: 30 MiB of each kind",
        least=1, most=10_000_000,
    )  # fmt: skip
    fragments_max: int = _setting(
        1_024, "frames of one message; 1008 beyond, as each costs more than its bytes", least=1, most=1_000_000
    )
    fragments_per_second: float = _setting(
        200.0, "frames of fragmented messages from one connection in the long run; 1008 beyond (0: any number)",
        most=1_000_000, in_development=0,
    )  # fmt: skip
    fragments_burst: int = _setting(
        2_048, "such frames at once: two messages of fragments_max", least=1, most=1_000_000
    )
    control_frames_per_second: float = _setting(
        10.0, "pings and pongs of one connection in the long run; 1008 beyond (0: any number)", most=1_000_000,
        in_development=0,
    )  # fmt: skip
    control_frames_burst: int = _setting(100, "pings and pongs of one connection at once", least=1, most=1_000_000)
    handshake_seconds: float = _setting(
        10.0, "from the first byte to the last of a request's head, and before the first; then the connection is cut",
        unit="s", least=0.1, most=600,
    )  # fmt: skip
    head_max_bytes: int = _setting(
        16_384, "a larger head of a request is refused with 400", unit="bytes", least=1024, most=MIB
    )
    body_seconds: float = _setting(
        60.0, "how long the body of a request may take; then the connection is cut", unit="s", least=0.1, most=3600
    )
    body_max_bytes: int = _setting(
        10 * MIB, "a larger body of a request is refused with 413; a node holds it in memory", unit="bytes", least=1024
    )
    memory_max_bytes: int = _setting(
        512 * MIB, "a node with more resident memory is unhealthy, and closes inactive connections", unit="bytes",
        least=MIB,
    )  # fmt: skip
    memory_check_seconds: float = _setting(
        60.0, "how often a node looks at its memory, and logs it", unit="s", least=0.1, most=3600
    )
    health_interval_seconds: float = _setting(
        30.0, "how often a node checks its health", unit="s", least=0.1, most=3600
    )
    health_timeout_seconds: float = _setting(
        5.0, "a check that takes longer than that has failed", unit="s", least=0.1, most=60
    )
    health_threshold: float = _setting(
        0.8, "share of connections_max and of memory_max_bytes above which a node is unhealthy", least=0.01, most=1
    )
    health_latency_max_ms: float = _setting(
        1_000.0, "a node that takes longer to answer its own ping is unhealthy", unit="ms", least=1, most=60_000
    )
    health_loop_lag_max_ms: float = _setting(
        500.0, "a node whose loop came later than that since the last look is unhealthy", unit="ms", least=1,
        most=60_000,
    )  # fmt: skip
    health_token: str = _setting(
        "",
        "whoever sends it as `Authorization: Bearer …` may read /health/, as staff may (empty: staff only)",
        is_secret=True,
    )
    metrics_token: str = _setting(
        "",
        "whoever sends it as `Authorization: Bearer …` may read /metrics, as staff and this machine may",
        is_secret=True,
    )
    socketio_is_on: bool = _setting(True, "whether Socket.IO clients are served under /socket.io/")
    socketio_ping_interval_seconds: float = _setting(
        25.0, "how often a Socket.IO client is pinged", unit="s", least=0.1, most=3600
    )
    socketio_ping_timeout_seconds: float = _setting(
        20.0, "a Socket.IO client that does not answer a ping for that long is gone", unit="s", least=0.1, most=3600
    )
    socketio_connect_timeout_seconds: float = _setting(
        45.0, "a Socket.IO client in no namespace by then is closed", unit="s", least=0.1, most=3600
    )
    socketio_join_notices: bool = _setting(
        True, "whether the members of a room get a message when a Socket.IO client joins it"
    )
    listen_backlog: int = _setting(1024, "connections that the kernel may hold before they are accepted", least=1)
    ping_interval_seconds: float = _setting(
        20.0, "a connection silent for that long is pinged by the server", unit="s", least=0.1, most=3600
    )
    ping_timeout_seconds: float = _setting(
        30.0, "a peer that does not answer a ping for that long is gone", unit="s", least=0.1, most=3600
    )
    drain_wait_seconds: float = _setting(
        0.0,
        "between red readiness and the first close: what the balancer needs to notice",
        unit="s",
        most=600,
    )
    drain_deadline_seconds: float = _setting(
        30.0, "the process exits by then, whatever is still open", unit="s", least=0.5, most=3600
    )
    drain_batch_connections: int = _setting(100, "connections closed at once while draining", least=1, most=100_000)
    tracking_is_on: bool = _setting(True, "whether rows of nodes and connections are written to the database at all")
    tracking_flush_seconds: float = _setting(
        1.0, "how often rows of nodes and connections are written", unit="s", least=0.05, most=60
    )
    tracking_refresh_seconds: float = _setting(
        30.0,
        "how often rows of live connections are brought up to date, as far as these did something",
        unit="s",
        least=0.1,
        most=3600,
    )
    tracking_pending_max: int = _setting(
        100_000, "rows that may wait for the database; beyond that they are counted and lost", least=100
    )
    signals_pending_max: int = _setting(
        10_000, "Django signals that may wait for their receivers; beyond that they are counted and dropped", least=1
    )
    token_keys: tuple[str, ...] = _setting(
        (),
        "keys of tokens, newest first: secrets, keys in PEM or `file:<path>`; empty: settings.SECRET_KEY",
        is_secret=True,
    )
    token_audience: str = _setting("", "the `aud` that tokens must have (empty: they must have none)")
    token_issuer: str = _setting("", "the `iss` that tokens must have (empty: any or none)")
    token_leeway_seconds: float = _setting(
        5.0, "how far the clock of who issues tokens may be ahead of ours", unit="s", most=300
    )
    token_grace_seconds: float = _setting(
        30.0, "how long a client whose token has expired may take to send a new one", unit="s", most=3600
    )
    token_query_parameter: str = _setting(
        "", "a field of the query that may carry the token; queries end in access logs (empty: none)"
    )
    token_users_are_checked: bool = _setting(
        True, "whether a token is good only for an active user of this database", in_development=False
    )
    anonymous_is_allowed: bool = _setting(
        False, "whether clients without an identity may do what others may", in_development=True
    )
    authenticate_seconds: float = _setting(
        10.0, "a client that must say who it is and has not by then is closed with 4001", unit="s", least=0.1, most=600
    )
    session_check_seconds: float = _setting(
        60.0, "how often the sessions and users behind connections are looked up (0: never)", unit="s", most=86_400
    )
    authentication: str = _setting(
        "", "the dotted path of a function that says who a client is, before sessions and tokens do (empty: none)"
    )
    permissions: str = _setting(
        "realtime.permissions.Permissions",
        "the class that says what clients may do, by its dotted path",
        in_development="realtime.permissions.OpenPermissions",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        ("127.0.0.1", "::1"),
        "addresses and networks whose X-Forwarded-For and -Proto are believed; `unix`: all peers on Unix sockets",
        read=read_network,
    )
    allowed_origins: tuple[str, ...] = _setting(
        (),
        'origins (scheme://host[:port]) whose pages may connect besides the page\'s own; "*" allows all',
        read=read_allowed,
    )
    origin_null_is_allowed: bool = _setting(
        False, "whether pages without an origin of their own may connect: sandboxed frames, local files"
    )
    origin_missing_is_allowed: bool = _setting(
        True, "whether clients without an Origin header may connect: those that are no browsers"
    )

    @property
    def name_of_node(self) -> str:
        """``node_name``, or the host's name."""
        return self.node_name or socket.gethostname().split(".")[0]


def load(values: Mapping[str, object], *, is_debug: bool = False) -> Settings:
    """Check and convert ``settings.REALTIME``. Raises BadSetting, naming the setting, on the first bad value."""
    known = {each.name.upper(): each for each in fields(Settings)}
    checked: dict[str, object] = development_defaults() if _is_development(values, is_debug) else {}
    for name, value in values.items():
        if name not in known:
            raise BadSetting(name, "is not a setting; docs/settings.md lists them")
        checked[known[name].name] = _checked(name, value, known[name].type, known[name].metadata)
    settings = Settings(**checked)  # type: ignore[arg-type]
    try:
        read_keys(settings.token_keys)
    except BadKey as error:
        raise BadSetting("TOKEN_KEYS", str(error)) from None
    return settings


def current() -> Settings:
    """The settings of this Django project."""
    from django.conf import settings  # this module is the only reader of Django's settings

    return load(getattr(settings, "REALTIME", {}), is_debug=settings.DEBUG)


def is_own_host(host: str) -> bool:
    """Whether this Django project serves a host of that name (ALLOWED_HOSTS)."""
    from django.conf import settings
    from django.http.request import validate_host

    local = [".localhost", "127.0.0.1", "[::1]"] if settings.DEBUG else []  # as Django has it
    return validate_host(host, settings.ALLOWED_HOSTS or local)


def table_prefix() -> str:
    """TABLE_PREFIX, which models need before settings are checked; the default while any of them is bad."""
    try:
        return current().table_prefix
    except BadSetting:
        return Settings().table_prefix


def development_defaults() -> dict[str, Any]:
    """The defaults that are other ones in development, by the names of ``Settings``."""
    others = {each.name: each.metadata["in_development"] for each in fields(Settings)}
    return {name: default for name, default in others.items() if default is not None}


def secret_names() -> frozenset[str]:
    """The settings, by their names in ``settings.REALTIME``, whose values nobody may see."""
    return frozenset(each.name.upper() for each in fields(Settings) if each.metadata["is_secret"])


def _is_development(values: Mapping[str, object], is_debug: bool) -> bool:
    chosen = values.get("DEFAULTS") or (DEVELOPMENT if is_debug else PRODUCTION)
    if chosen not in (DEVELOPMENT, PRODUCTION):
        raise BadSetting("DEFAULTS", f"must be {PRODUCTION!r} or {DEVELOPMENT!r}, not {chosen!r}")
    return chosen == DEVELOPMENT


def _require_readable(name: str, values: Any, read: Callable[[str], object] | None) -> None:
    if read is None:
        return
    for value in values:
        try:
            read(value)
        except ValueError as error:
            raise BadSetting(name, f"{error}, not {value!r}") from error


def _checked(name: str, value: object, kind: Any, metadata: Mapping[str, Any]) -> object:
    if kind == "str":
        if not isinstance(value, str):
            raise BadSetting(name, f"must be text, not {_shown(value, metadata)}")
        if metadata["pattern"] and not re.fullmatch(metadata["pattern"], value):
            raise BadSetting(name, f"must match {metadata['pattern']}, unlike {value!r}")
        return value
    if kind == "tuple[str, ...]":
        if isinstance(value, str) or not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise BadSetting(name, f"must be a list of texts, not {_shown(value, metadata)}")
        _require_readable(name, value, metadata["read"])
        return tuple(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise BadSetting(name, f"must be True or False, not {value!r}")
        return value
    wanted = (int,) if kind == "int" else (int, float)
    if isinstance(value, bool) or not isinstance(value, wanted):
        raise BadSetting(name, f"must be {'a whole number' if kind == 'int' else 'a number'}, not {value!r}")
    if not metadata["least"] <= value <= metadata["most"]:
        raise BadSetting(name, f"must be between {metadata['least']:g} and {metadata['most']:g}, not {value!r}")
    return value


def _shown(value: object, metadata: Mapping[str, Any]) -> str:
    """For an error: a secret by its type alone."""
    return type(value).__name__ if metadata["is_secret"] else repr(value)
