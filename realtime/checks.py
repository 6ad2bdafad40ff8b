"""Numbered system checks: what is wrong with the settings, and with ``check --deploy`` what is small on this machine.

Each check is one function that returns a problem or None; ``CHECKS`` lists them, docs/settings.md has the same table.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage

from realtime import clashes, conf
from realtime.authentication import require_hook
from realtime.judge import permissions_named
from realtime.layers.backplane import capacity_of
from realtime.logs import without_passwords
from realtime.rows import database_alias

TAG = "realtime"
DEPLOY = "deploy"
DATABASE = "database"
Problem = clashes.Problem

CAPACITY_LEAST = 10_000
OPEN_FILES_LEAST = 65_535
LISTEN_BACKLOG_LEAST = 1_024
MESSAGE_MOST = conf.MIB
SYSCTL = Path("/proc/sys")


@dataclass(frozen=True, slots=True)
class Check:
    """One check. ``when`` it speaks; ``look`` returns the problem, or None."""

    id: str
    tag: str
    when: str
    look: Callable[[], Problem | None]

    def message(self) -> CheckMessage | None:
        """For Django."""
        problem = self.look()
        if problem is None:
            return None
        kind = checks.Error if self.id.split(".")[1].startswith("E") else checks.Warning
        return kind(problem[0], hint=problem[1], id=self.id)


def bad_setting() -> Problem | None:
    """A value in REALTIME that the node would refuse to start with."""
    try:
        require_hook(conf.current())
    except conf.BadSetting as error:
        return str(error), "docs/settings.md has the name, the unit and the bounds of each setting."
    return None


def missing_layer() -> Problem | None:
    """No channel layer, so nothing to join the nodes by."""
    alias = _settings().layer
    if alias in getattr(settings, "CHANNEL_LAYERS", {}):
        return None
    return (
        f"CHANNEL_LAYERS has no {alias!r}, the layer that REALTIME['LAYER'] names.",
        'CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.redis.RedisChannelLayer",'
        ' "CONFIG": {"hosts": ["redis://127.0.0.1:6379/0"]}}}',
    )


def unusable_layer() -> Problem | None:
    """A channel layer that cannot be made: not installed, or its CONFIG is refused."""
    try:
        _layer()
    except Exception as error:  # a backend may refuse its CONFIG with anything
        return (
            f"The channel layer {_settings().layer!r} cannot be made: {type(error).__name__}: {_words(error)}",
            "Correct its BACKEND and CONFIG in CHANNEL_LAYERS.",
        )
    return None


def missing_asgi_application() -> Problem | None:
    """``runserver`` would serve no WebSockets."""
    if getattr(settings, "ASGI_APPLICATION", None):
        return None
    return (
        "ASGI_APPLICATION is not set.",
        'ASGI_APPLICATION = "<project>.asgi.application", which realtime.routing.realtime_application() wraps.',
    )


def unusable_permissions() -> Problem | None:
    """No class to ask what clients may do: no node starts."""
    try:
        permissions_named(_settings().permissions)
    except conf.BadSetting as error:
        return str(error), "docs/permissions.md shows a class; its path is app.module.ClassName."
    return None


def contradiction() -> Problem | None:
    """Settings that are fine alone and wrong together."""
    own = _settings()
    if own.node_timeout_seconds < 2 * own.heartbeat_seconds:
        wrong = "NODE_TIMEOUT_SECONDS is under two HEARTBEAT_SECONDS: one late heartbeat makes a node dead"
    elif own.drain_wait_seconds >= own.drain_deadline_seconds:
        wrong = "DRAIN_WAIT_SECONDS is not under DRAIN_DEADLINE_SECONDS: clients are cut before they can be closed"
    elif own.backlog_hard_max_bytes < own.backlog_max_bytes:
        wrong = "BACKLOG_HARD_MAX_BYTES is under BACKLOG_MAX_BYTES: the grace time never applies"
    elif own.command_max_bytes > own.message_max_bytes:
        wrong = "COMMAND_MAX_BYTES is over MESSAGE_MAX_BYTES: `too_large` is never answered"
    elif own.pong_is_activity and 0 < own.idle_timeout_seconds <= own.ping_interval_seconds:
        wrong = "IDLE_TIMEOUT_SECONDS is not over PING_INTERVAL_SECONDS: a silent client is closed before it is pinged"
    elif own.commands_per_second and own.commands_burst <= own.rooms_per_connection_max:
        wrong = "COMMANDS_BURST is not over ROOMS_PER_CONNECTION_MAX: who comes back cannot join all rooms at once"
    elif own.joins_per_second and own.joins_burst < own.rooms_per_connection_max:
        wrong = "JOINS_BURST is under ROOMS_PER_CONNECTION_MAX: who comes back cannot join all rooms at once"
    elif own.control_frames_per_second and own.control_frames_per_second * own.ping_interval_seconds < 1:
        wrong = "CONTROL_FRAMES_PER_SECOND is under one in PING_INTERVAL_SECONDS: answers to pings are too many"
    else:
        return None
    return f"REALTIME: {wrong}.", "Three heartbeats, four times the backlog, and the same size are the defaults."


def missing_middleware() -> Problem | None:
    """Nobody tells the nodes which session changed the password: its own connections are closed, too."""
    if "django.contrib.sessions.middleware.SessionMiddleware" not in settings.MIDDLEWARE:
        return None
    if "realtime.revocation.RevocationMiddleware" in settings.MIDDLEWARE:
        return None
    return (
        "MIDDLEWARE has no realtime.revocation.RevocationMiddleware: a session that gets another key, as when it"
        " changes its password, loses its connections.",
        'Add "realtime.revocation.RevocationMiddleware" right after Django\'s SessionMiddleware.',
    )


def small_capacity() -> Problem | None:
    """A stock layer that drops without a word what all rooms of a node share."""
    try:
        capacity = capacity_of(_layer())
    except Exception:  # unusable_layer says so
        return None
    if capacity is None or capacity >= CAPACITY_LEAST:
        return None
    return (
        f"The channel layer {_settings().layer!r} holds {capacity:,} messages for a node, which all its rooms share;"
        " it drops more without a word.",
        f'Set "capacity" in its CONFIG to {CAPACITY_LEAST:_} or more, or use realtime.layers.redis.RedisChannelLayer.',
    )


def sqlite_in_production() -> Problem | None:
    """A file cannot be shared by nodes on several hosts."""
    return judge_database(settings.DATABASES.get("default", {}).get("ENGINE", ""), is_debug=settings.DEBUG)


def judge_database(engine: str, *, is_debug: bool) -> Problem | None:
    """Whether this engine is for development only."""
    if is_debug or "sqlite3" not in engine:
        return None
    return (
        "The database is SQLite: nodes on another host could not share it.",
        "Use PostgreSQL (DATABASE_URL) as soon as nodes run on more than one host; on one host silence this check.",
    )


def few_open_files() -> Problem | None:
    """The hard limit counts: a node raises its soft limit to it."""
    return judge_open_files(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def judge_open_files(hard: int) -> Problem | None:
    """Each connection is an open file."""
    if hard == resource.RLIM_INFINITY or hard >= OPEN_FILES_LEAST:
        return None
    return (
        f"A process may have {hard:,} open files, and each connection is one.",
        f"Set LimitNOFILE={OPEN_FILES_LEAST} in the systemd unit, or nofile in /etc/security/limits.conf.",
    )


def short_accept_queue() -> Problem | None:
    """The kernel cuts the listen backlog to this."""
    return judge_sysctl("net.core.somaxconn", sysctl("net.core.somaxconn"), _settings().listen_backlog)


def short_handshake_queue() -> Problem | None:
    """Half-open connections that the kernel keeps while clients come back all at once."""
    return judge_sysctl(
        "net.ipv4.tcp_max_syn_backlog", sysctl("net.ipv4.tcp_max_syn_backlog"), _settings().listen_backlog
    )


def no_port_reuse() -> Problem | None:
    """A balancer runs out of ports to a node when ended connections hold theirs for a minute."""
    return judge_sysctl("net.ipv4.tcp_tw_reuse", sysctl("net.ipv4.tcp_tw_reuse"), 1)


def judge_sysctl(name: str, value: int | None, least: int) -> Problem | None:
    """Whether a value of the kernel is too small; one that is not there (not Linux) is not judged."""
    if value is None or value >= least:
        return None
    return f"{name} is {value:,}, under {least:,}.", f"sysctl -w {name}={least}, and the same in /etc/sysctl.d/."


def short_listen_backlog() -> Problem | None:
    """Every client of a dead node comes back in the same seconds."""
    return judge_listen_backlog(_settings().listen_backlog)


def judge_listen_backlog(backlog: int) -> Problem | None:
    """Whether connections would be refused while a node is busy accepting others."""
    if backlog >= LISTEN_BACKLOG_LEAST:
        return None
    return (
        f"The kernel may hold {backlog:,} connections that the node has not accepted yet, and drops more.",
        f"Leave LISTEN_BACKLOG at its default, {LISTEN_BACKLOG_LEAST:,}, or above.",
    )


def large_messages() -> Problem | None:
    """A message is in memory for every connection that waits for it."""
    return judge_message_size(_settings().message_max_bytes)


def judge_message_size(size: int) -> Problem | None:
    """Whether a few clients could fill a node's memory with messages that are allowed."""
    if size <= MESSAGE_MOST:
        return None
    return (
        f"A message may have {size:,} bytes, over {MESSAGE_MOST:,}: each holds up all others on its way.",
        "Leave MESSAGE_MAX_BYTES at its default, and send larger things over HTTP.",
    )


def no_time_to_notice() -> Problem | None:
    """A node that drains at once refuses clients that the balancer still sends to it."""
    return judge_drain_wait(_settings().drain_wait_seconds)


def judge_drain_wait(seconds: float) -> Problem | None:
    """Whether a balancer has time for its two checks."""
    if seconds > 0:
        return None
    return (
        "DRAIN_WAIT_SECONDS is 0: a node that stops closes its clients before the balancer knows that it does.",
        "Set it above two checks of the balancer: 6 with our configuration of HAProxy. docs/operations.md says more.",
    )


def sysctl(name: str) -> int | None:
    """A number of the kernel; None where there is none."""
    try:
        return int((SYSCTL / name.replace(".", "/")).read_text())
    except (OSError, ValueError):
        return None


CHECKS: tuple[Check, ...] = (
    Check("realtime.E001", TAG, "a value in REALTIME is unknown, of the wrong type, or out of its bounds", bad_setting),
    Check("realtime.E002", TAG, "CHANNEL_LAYERS lacks the layer that joins the nodes", missing_layer),
    Check("realtime.E003", TAG, "that channel layer cannot be made", unusable_layer),
    Check("realtime.E004", TAG, "ASGI_APPLICATION is not set", missing_asgi_application),
    Check("realtime.E005", TAG, "PERMISSIONS names no class that could be asked", unusable_permissions),
    Check("realtime.E051", TAG, "another application has the label `realtime` or `monitoring`", clashes.taken_label),
    Check("realtime.E052", TAG, "a package of the project hides our `monitoring`", clashes.stranger),
    Check("realtime.E053", TAG, "a model of the project has a table of ours", clashes.taken_tables),
    Check("realtime.E054", DATABASE, "the database has tables of our names that are not ours", clashes.foreign_tables),
    Check("realtime.W001", TAG, "settings contradict each other", contradiction),
    Check("realtime.W002", TAG, "a stock channel layer holds fewer than 10,000 messages", small_capacity),
    Check("realtime.W003", TAG, "the database is SQLite and DEBUG is off", sqlite_in_production),
    Check(
        "realtime.W004",
        TAG,
        "MIDDLEWARE has Django's sessions and not the RevocationMiddleware of realtime.revocation",
        missing_middleware,
    ),
    Check("realtime.W051", TAG, "a command of ours hides one of another application", clashes.hiding_commands),
    Check("realtime.W052", TAG, "a command of another application hides one of ours", clashes.hidden_commands),
    Check(
        "realtime.W053", TAG, "ASGI_APPLICATION is not wrapped, or cannot be imported", clashes.unwrapped_application
    ),
    Check("realtime.W054", TAG, "a route of the project is hidden by `/ws/` or `/socket.io/`", clashes.hidden_routes),
    Check("realtime.W055", TAG, "sessions need a table that is not installed", clashes.missing_sessions),
    Check("realtime.W101", DEPLOY, "a process may have fewer than 65,535 open files", few_open_files),
    Check("realtime.W102", DEPLOY, "net.core.somaxconn is under LISTEN_BACKLOG", short_accept_queue),
    Check("realtime.W103", DEPLOY, "net.ipv4.tcp_max_syn_backlog is under LISTEN_BACKLOG", short_handshake_queue),
    Check("realtime.W104", DEPLOY, "net.ipv4.tcp_tw_reuse is off", no_port_reuse),
    Check("realtime.W105", DEPLOY, "LISTEN_BACKLOG is under 1,024", short_listen_backlog),
    Check("realtime.W106", DEPLOY, "MESSAGE_MAX_BYTES is over 1 MiB", large_messages),
    Check("realtime.W107", DEPLOY, "DRAIN_WAIT_SECONDS is 0", no_time_to_notice),
)


@checks.register(TAG)
def check_settings(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """The checks of the settings."""
    return _messages(TAG)


@checks.register(checks.Tags.database)
def check_database(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """The checks of the database, which ``migrate`` and ``check --database`` add."""
    return _messages(DATABASE) if databases and database_alias() in databases else []


@checks.register(TAG, deploy=True)
def check_machine(app_configs: Sequence[Any] | None, **_: Any) -> list[CheckMessage]:
    """The checks of the machine, which ``check --deploy`` adds."""
    return _messages(DEPLOY)


def _messages(tag: str) -> list[CheckMessage]:
    return [message for check in CHECKS if check.tag == tag and (message := check.message())]


def _settings() -> conf.Settings:
    """The settings as far as they can be read: E001 speaks of the rest."""
    try:
        return conf.current()
    except conf.BadSetting:
        return conf.Settings()


def _words(error: Exception) -> str:
    return without_passwords(str(error))


def _layer() -> Any:
    from channels.layers import channel_layers

    alias = _settings().layer
    return channel_layers[alias] if alias in getattr(settings, "CHANNEL_LAYERS", {}) else None
