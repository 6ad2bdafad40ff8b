"""Log records become one line each, for people or for machines."""

from __future__ import annotations

import ast
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.logs import QUIET_LEVELS, RECORD
from realtime import logs
from realtime.logs import JsonFormatter, LineLimit, TextFormatter, speak_as

LEVELS = ("debug", "info", "warning", "error", "critical", "exception")
SOURCES = Path(__file__).resolve().parents[2] / "realtime"


@pytest.fixture(autouse=True)
def _named() -> Iterator[None]:
    speak_as("n1-abc")
    yield
    speak_as(logs.NO_NODE)


def lines(formatter: logging.Formatter, *calls: tuple[Any, ...], failing: bool = False) -> list[str]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger = logging.Logger("realtime.test")
    logger.addHandler(handler)
    for call in calls:
        try:
            if failing:
                raise ZeroDivisionError("no\nway")
            logger.warning(*call)
        except ZeroDivisionError:
            logger.exception(*call)
    return out.getvalue().splitlines()


def test_an_event_becomes_fields() -> None:
    """Each with its own type; floats not longer than they mean anything."""
    template = "connection_closed id=%s user=%s code=%d reason=%r seconds=%.3f"
    (line,) = lines(JsonFormatter(), (template, "n1.x", None, 1001, "Server overloaded", 1.23456789))
    found = json.loads(line)
    assert found.pop("at").endswith("+00:00")
    assert found == {
        "level": "WARNING", "node": "n1-abc", "logger": "realtime.test", "event": "connection_closed",
        "id": "n1.x", "user": None, "code": 1001, "reason": "Server overloaded", "seconds": 1.234568,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (("HTTP %s %s", "GET", "/x"), {"message": "HTTP GET /x"}),
        (("plain",), {"event": "plain"}),
        (("started: a sentence",), {"message": "started: a sentence"}),
        (("died node=%s other=%s", "n1-abc", {"a"}), {"event": "died", "other": "{'a'}"}),
        (("died other=%(other)s", {"other": 7}), {"message": "died other=7"}),
        ((12,), {"message": "12"}),
        (("rate value=%.1f", float("inf")), {"event": "rate", "value": "inf"}),
    ],
)
def test_what_is_no_event_is_a_message(call: tuple[Any, ...], content: dict[str, Any]) -> None:
    """Lines of libraries keep their words; whatever a field holds, the line is JSON."""
    found = json.loads(lines(JsonFormatter(), call)[0], parse_constant=pytest.fail)
    assert {name: value for name, value in found.items() if name not in ("at", "level", "node", "logger")} == content


def test_a_field_replaces_nothing_of_the_line() -> None:
    """The level is that of the record, whatever a field is called."""
    (line,) = lines(JsonFormatter(), ("odd level=%s logger=%s extra=%s", "a", "b", "c"))
    found = json.loads(line)
    assert (found["level"], found["logger"], found["extra"]) == ("WARNING", "realtime.test", "c")


def test_a_traceback_stays_in_the_line() -> None:
    """Of JSON; in text it follows below."""
    (line,) = lines(JsonFormatter(), ("handler_failed connection=%s", "x"), failing=True)
    assert "ZeroDivisionError: no\nway" in json.loads(line)["exception"]
    first, *rest = lines(TextFormatter(), ("handler_failed connection=%s", "x"), failing=True)
    assert first.endswith("ERROR   n1-abc realtime.test handler_failed connection=x")
    assert rest[0].startswith("Traceback")


def test_nobody_can_write_a_second_line() -> None:
    """A line break in a value is shown as such."""
    assert len(lines(TextFormatter(), ("user=%s", "eve\n2026-01-01 00:00:00,000 ERROR   forged"))) == 1
    assert len(lines(JsonFormatter(), ("user=%s", "eve\r\nforged"))) == 1


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_make_run_knows_the_level_of_each_line(formatter: logging.Formatter) -> None:
    """It shows those above INFO."""
    record = RECORD.match(lines(formatter, ("event a=%s", 1))[0])
    assert record is not None
    assert record["level"] == "WARNING"
    assert record["level"] not in QUIET_LEVELS


def test_every_line_of_ours_is_an_event() -> None:
    """What has values in it names each of them, so that machines find them."""
    templates = [
        node.args[0].value
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LEVELS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "logger"
        and isinstance(node.args[0], ast.Constant)
    ]
    assert len(templates) > 20
    assert [each for each in templates if "%" in str(each) and logs._EVENT.fullmatch(str(each)) is None] == []


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:hunter2@a:6379/0", "redis://:***@a:6379/0"),
        ("amqp://bob:hunter2@a/shop", "amqp://bob:***@a/shop"),
        ("kafka://bob:h/unt@er2@a:1,b:2", "kafka://bob:***@a:1,b:2"),
        ("redis://a:6379/0 and bob@example.com", "redis://a:6379/0 and bob@example.com"),
    ],
)
def test_passwords_in_urls_are_blotted_out(formatter: logging.Formatter, url: str, shown: str) -> None:
    """Whoever puts a URL into a line or a field, its password is not in the log."""
    [line] = lines(formatter, ("went_wrong url=%s", url))
    assert shown in line
    [line] = lines(formatter, (f"a library says {url}",))
    assert shown in line


def test_lines_that_repeat_are_written_now_and_then() -> None:
    """So many in each span of time; the first of the next span says how many were left out."""
    lines = LineLimit(most=2, seconds=10)
    assert [lines.admit(now) for now in (100, 100.1, 100.2, 109.9, 110, 115, 119, 120)] == [
        0,
        0,
        None,
        None,
        2,
        0,
        None,
        1,
    ]
