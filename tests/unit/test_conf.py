"""Settings: defaults, checks and conversions."""

from __future__ import annotations

import dataclasses
import socket
from dataclasses import fields
from typing import Any

import pytest
from pytest_django import Settings as DjangoSettings

from realtime.conf import BadSetting, Settings, current, development_defaults, load

NUMBERS = [each for each in fields(Settings) if each.type in ("int", "float")]


def named(each: Any) -> str:
    return str(each.name)


def test_nothing_set_gives_the_defaults() -> None:
    """An empty REALTIME is fine."""
    assert load({}) == Settings()


def test_development_has_defaults_of_its_own() -> None:
    """They hold with Django's DEBUG, unless DEFAULTS says which do; what is set holds anyway."""
    friendly = load({"DEFAULTS": "development"})
    assert friendly == dataclasses.replace(load({}, is_debug=True), defaults="development")
    others: dict[str, Any] = development_defaults()
    assert friendly == dataclasses.replace(Settings(), defaults="development", **others)
    assert load({"DEFAULTS": "production"}, is_debug=True) == dataclasses.replace(Settings(), defaults="production")
    assert load({"NODE_NAME": "a"}, is_debug=True).node_name == "a"
    with pytest.raises(BadSetting, match="DEFAULTS"):
        load({"DEFAULTS": "wild"})


def test_the_defaults_of_the_design() -> None:
    """The figures that the design promises."""
    defaults = Settings()
    assert (defaults.heartbeat_seconds, defaults.node_timeout_seconds) == (5, 15)
    assert defaults.message_max_bytes == 1024 * 1024
    assert defaults.rooms_per_connection_max == 128
    assert (defaults.backlog_max_bytes, defaults.backlog_grace_seconds) == (1024 * 1024, 1)
    assert defaults.backlog_hard_max_bytes == 4 * 1024 * 1024
    assert defaults.listen_backlog == 1024
    assert (defaults.batch_window_ms, defaults.batch_max_messages, defaults.batch_max_bytes) == (0, 100, 128 * 1024)
    assert defaults.drain_wait_seconds == 0
    assert defaults.permissions == "realtime.permissions.Permissions"
    assert (defaults.allowed_origins, defaults.origin_null_is_allowed) == ((), False)


def test_values_are_read_by_their_upper_case_names() -> None:
    """A value takes the place of the default; lists become tuples."""
    settings = load({"HEARTBEAT_SECONDS": 1, "NODE_NAME": "a", "ALLOWED_ORIGINS": ["https://a.example"]})
    assert settings == dataclasses.replace(
        Settings(), heartbeat_seconds=1, node_name="a", allowed_origins=("https://a.example",)
    )


@pytest.mark.parametrize("name", ["NO_SUCH_SETTING", "heartbeat_seconds", ""])
def test_unknown_names_are_refused(name: str) -> None:
    """A misspelt setting stops the start instead of doing nothing."""
    with pytest.raises(BadSetting, match="is not a setting") as caught:
        load({name: 1})
    assert caught.value.name == name


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("PATH_PREFIX", ["", "/live", "/a/b-c"], ["live", "/live/", "/", "/a b", "/a\n"]),
        ("METRIC_PREFIX", ["", "live_", "_"], ["1st", "live-", "a:b", "live\n"]),
        ("TABLE_PREFIX", ["rt_", "a", "live_12345"], ["", "Live_", "1_", "a" * 11, "rt_\n"]),
    ],
)
def test_prefixes_have_a_form(name: str, good: list[str], bad: list[str]) -> None:
    """A prefix that could be none of a path, a metric or a table is refused by name."""
    for value in good:
        assert getattr(load({name: value}), name.lower()) == value
    for value in bad:
        with pytest.raises(BadSetting, match=name):
            load({name: value})


@pytest.mark.parametrize("each", NUMBERS, ids=named)
def test_numbers_have_bounds(each: Any) -> None:
    """Each number takes both of its bounds and nothing beyond, no text, no truth value, no NaN."""
    name, least, most = each.name.upper(), each.metadata["least"], each.metadata["most"]
    assert getattr(load({name: least}), each.name) == least
    refused: list[object] = [least - 1, "5", None, True, [1], float("nan")]
    if most != float("inf"):
        assert getattr(load({name: most}), each.name) == most
        refused.append(most + 1)
    for value in refused:
        with pytest.raises(BadSetting, match=name):
            load({name: value})


@pytest.mark.parametrize("each", [each for each in NUMBERS if each.type == "int"], ids=named)
def test_whole_numbers_take_no_fractions(each: Any) -> None:
    """1.5 connections are refused."""
    with pytest.raises(BadSetting, match="whole number"):
        load({each.name.upper(): each.metadata["least"] + 0.5})


@pytest.mark.parametrize("value", [5, None, b"x", ["x"]])
def test_texts_are_texts(value: object) -> None:
    """A text setting takes nothing else."""
    with pytest.raises(BadSetting, match="must be text"):
        load({"LAYER": value})


@pytest.mark.parametrize("value", ["https://a", b"x", [1], None, {"https://a": 1}])
def test_lists_are_lists_of_texts(value: object) -> None:
    """One text is not a list: its characters would be taken for origins."""
    with pytest.raises(BadSetting, match="must be a list"):
        load({"ALLOWED_ORIGINS": value})


@pytest.mark.parametrize("each", fields(Settings), ids=named)
def test_every_setting_is_explained(each: Any) -> None:
    """Each has a reason; a unit stands at the end of its name, and its default is within its bounds."""
    metadata = each.metadata
    assert metadata["reason"]
    unit_by_ending = {"_seconds": "s", "_ms": "ms", "_bytes": "bytes"}
    assert metadata["unit"] == next((unit for end, unit in unit_by_ending.items() if each.name.endswith(end)), "")
    load({each.name.upper(): getattr(Settings(), each.name)})


def test_settings_cannot_be_changed() -> None:
    """What a node was started with stays."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().layer = "other"  # type: ignore[misc]


def test_current_reads_django(settings: DjangoSettings) -> None:
    """`current` reads settings.REALTIME, and does without it."""
    settings.REALTIME = {"NODE_NAME": "from-django"}
    assert current().node_name == "from-django"
    del settings.REALTIME
    assert current() == Settings()


def test_a_nodes_name() -> None:
    """NODE_NAME, or else the host's."""
    assert load({"NODE_NAME": "a"}).name_of_node == "a"
    assert load({}).name_of_node == socket.gethostname().split(".")[0]


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_truth_values_are_truth_values(value: object) -> None:
    """1 is not True: a number there is most likely meant for another setting."""
    assert load({"TRACKING_IS_ON": False}).tracking_is_on is False
    with pytest.raises(BadSetting):
        load({"TRACKING_IS_ON": value})
