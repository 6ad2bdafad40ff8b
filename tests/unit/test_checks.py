"""System checks: each speaks when it should, with a hint, and is silent otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from channels.layers import channel_layers
from django.core import checks
from pytest_django import Settings

from realtime.checks import (
    CHECKS,
    Problem,
    judge_database,
    judge_drain_wait,
    judge_listen_backlog,
    judge_message_size,
    judge_open_files,
    judge_sysctl,
    sysctl,
)

STOCK = "channels.layers.InMemoryChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"


@pytest.fixture(autouse=True)
def good_settings(settings: Settings) -> None:
    """Settings that no check complains about."""
    settings.DEBUG = True
    settings.REALTIME = {}
    settings.ASGI_APPLICATION = "config.asgi.application"
    use_layer(settings, "realtime.layers.memory.MemoryChannelLayer")


def use_layer(settings: Settings, backend: str, **config: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    channel_layers.backends.clear()


@pytest.fixture(autouse=True)
def forget_layers() -> Any:
    yield
    channel_layers.backends.clear()


def found() -> dict[str, checks.CheckMessage]:
    """What the checks of the settings say, by number."""
    messages = checks.run_checks(tags=["realtime"])
    return {message.id.removeprefix("realtime."): message for message in messages if message.id}


def test_the_application_registers_them() -> None:
    """A process that only loads the applications has all of them."""
    code = "import django, sys; django.setup(); sys.exit('realtime.checks' not in sys.modules)"
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings", "BACKPLANE_URL": "memory://"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, timeout=60).returncode == 0


def test_good_settings_pass() -> None:
    """With good settings every check is silent."""
    assert found() == {}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"HEARTBEAT": 5}, "'HEARTBEAT'"),
        ({"HEARTBEAT_SECONDS": "5"}, "must be a number"),
        ({"HEARTBEAT_SECONDS": 0}, "between 0.05 and 60"),
        ({"ALLOWED_ORIGINS": "https://a"}, "must be a list"),
        ({"ALLOWED_ORIGINS": ["a.example"]}, "must be origins"),
        ({"TRUSTED_PROXIES": ["10.0.0.0/8", "a.example"]}, "must be addresses"),
    ],
)
def test_a_bad_setting_is_named(settings: Settings, values: dict[str, object], named: str) -> None:
    """E001 names the setting and what is wrong with it, and the other checks go on with the defaults."""
    settings.REALTIME = values
    messages = found()
    assert list(messages) == ["E001"]
    assert named in messages["E001"].msg


@pytest.mark.parametrize("layers", [{}, {"other": {"BACKEND": STOCK}}])
def test_a_missing_layer(settings: Settings, layers: dict[str, Any]) -> None:
    """E002: the alias is not in CHANNEL_LAYERS."""
    settings.CHANNEL_LAYERS = layers
    assert list(found()) == ["E002"]


def test_the_layer_of_another_alias(settings: Settings) -> None:
    """REALTIME['LAYER'] chooses the alias that is looked at."""
    settings.CHANNEL_LAYERS = {"nodes": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.REALTIME = {"LAYER": "nodes"}
    assert found() == {}


@pytest.mark.parametrize("backend", ["no.such.Layer", STOCK])
def test_a_layer_that_cannot_be_made(settings: Settings, backend: str) -> None:
    """E003: a backend that does not exist, or refuses its CONFIG."""
    use_layer(settings, backend, no_such_option=1)
    assert list(found()) == ["E003"]


def test_no_asgi_application(settings: Settings) -> None:
    """E004: nothing for runserver to serve WebSockets with."""
    settings.ASGI_APPLICATION = None
    assert list(found()) == ["E004"]


@pytest.mark.parametrize("path", ["no.such.Permissions", "realtime.permissions.Rule"])
def test_permissions_that_could_not_be_asked(settings: Settings, path: str) -> None:
    """E005: no class of that name, or one of another shape."""
    settings.REALTIME = {"PERMISSIONS": path}
    messages = found()
    assert list(messages) == ["E005"]
    assert path in messages["E005"].msg


@pytest.mark.parametrize(
    "values",
    [
        {"NODE_TIMEOUT_SECONDS": 5, "HEARTBEAT_SECONDS": 3},
        {"DRAIN_WAIT_SECONDS": 30},
        {"BACKLOG_HARD_MAX_BYTES": 4096},
        {"MESSAGE_MAX_BYTES": 2048},
        {"PONG_IS_ACTIVITY": True, "IDLE_TIMEOUT_SECONDS": 20, "PING_INTERVAL_SECONDS": 20},
        {"DEFAULTS": "production", "COMMANDS_BURST": 128},
        {"DEFAULTS": "production", "JOINS_BURST": 127},
        {"DEFAULTS": "production", "CONTROL_FRAMES_PER_SECOND": 0.04},
    ],
)
def test_settings_that_contradict_each_other(settings: Settings, values: dict[str, object]) -> None:
    """W001: each value alone is fine, together they are not."""
    settings.REALTIME = values
    assert list(found()) == ["W001"]


@pytest.mark.parametrize(("capacity", "expected"), [(100, ["W002"]), (9_999, ["W002"]), (10_000, [])])
def test_capacity_of_a_stock_layer(settings: Settings, capacity: int, expected: list[str]) -> None:
    """W002: a stock layer that would drop messages of busy rooms; its default is 100."""
    use_layer(settings, STOCK, capacity=capacity)
    assert list(found()) == expected


def test_a_layer_without_a_capacity(settings: Settings) -> None:
    """A layer that has no such limit is not warned of."""
    use_layer(settings, PUBSUB)
    assert found() == {}


@pytest.mark.parametrize(
    ("debug", "engine", "speaks"),
    [(True, "sqlite3", False), (False, "sqlite3", True), (False, "postgresql", False)],
)
def test_sqlite_in_production(debug: bool, engine: str, speaks: bool) -> None:
    """W003: SQLite while DEBUG is off."""
    assert (judge_database(f"django.db.backends.{engine}", is_debug=debug) is not None) is speaks


@pytest.mark.parametrize(("hard", "speaks"), [(1024, True), (65_534, True), (65_535, False), (-1, False)])
def test_open_files(hard: int, speaks: bool) -> None:
    """W101: the hard limit of open files is under 65,535; -1 is no limit."""
    assert (judge_open_files(hard) is not None) is speaks


@pytest.mark.parametrize(("value", "speaks"), [(1023, True), (1024, False), (None, False)])
def test_values_of_the_kernel(value: int | None, speaks: bool) -> None:
    """W102 to W104: a value under what is wanted; where there is none, nothing is said."""
    problem = judge_sysctl("net.core.somaxconn", value, 1024)
    assert (problem is not None) is speaks
    if problem:
        assert "net.core.somaxconn is 1,023" in problem[0]
        assert "sysctl -w net.core.somaxconn=1024" in problem[1]


def test_the_kernel_is_read() -> None:
    """A value is read from /proc/sys; one that is not there is None."""
    path = Path("/proc/sys/net/core/somaxconn")
    assert sysctl("net.core.somaxconn") == (int(path.read_text()) if path.exists() else None)
    assert sysctl("net.no_such.value") is None


def test_the_listen_backlog_is_compared_with_the_kernels(settings: Settings) -> None:
    """`check --deploy` adds the checks of the machine: a backlog that no kernel takes is found."""
    settings.REALTIME = {"LISTEN_BACKLOG": 10**12}
    ids = {message.id for message in checks.run_checks(tags=["realtime"], include_deployment_checks=True)}
    assert {"realtime.W102", "realtime.W103"} <= ids
    assert "realtime.W102" not in {message.id for message in checks.run_checks(tags=["realtime"])}


@pytest.mark.parametrize(
    ("judge", "value", "speaks"),
    [
        (judge_listen_backlog, 1_023, True),
        (judge_listen_backlog, 1_024, False),
        (judge_message_size, 1_048_577, True),
        (judge_message_size, 1_048_576, False),
        (judge_drain_wait, 0, True),
        (judge_drain_wait, 6, False),
    ],
)
def test_settings_of_a_deployment(judge: Callable[[Any], Problem | None], value: int, speaks: bool) -> None:
    """W105 to W107: a short backlog, large messages, no time for the balancer to notice a draining node."""
    assert (judge(value) is not None) is speaks


def test_a_deployment_is_looked_at(settings: Settings) -> None:
    """`check --deploy` reads those from the settings; `check` alone says nothing of them."""
    settings.REALTIME = {"LISTEN_BACKLOG": 5, "MESSAGE_MAX_BYTES": 2_000_000, "COMMAND_MAX_BYTES": 2_000_000}
    ids = {message.id for message in checks.run_checks(tags=["realtime"], include_deployment_checks=True)}
    assert {"realtime.W105", "realtime.W106", "realtime.W107"} <= ids
    assert found() == {}


def test_numbers_are_unique_and_in_order() -> None:
    """Each check has a number of its own."""
    ids = [check.id for check in CHECKS]
    assert ids == sorted(set(ids))
