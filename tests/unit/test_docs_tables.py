"""The tables in docs/ say what the code says."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from monitoring.catalog import METRICS
from monitoring.checks import CHECKS as MONITORING_CHECKS
from realtime.checks import CHECKS
from realtime.conf import Settings
from realtime.protocol.closing import CLOSE_CODES
from realtime.protocol.errors import ERRORS
from tests.support.tables import table


def test_settings() -> None:
    """Each setting has one row, in the order of the code, with its default, unit, bounds and reason."""
    rows = table("settings.md", "setting", "default", "unit", "bounds", "reason")
    assert rows == [setting_row(each) for each in fields(Settings)]


def test_metrics() -> None:
    """Each metric has one row, in the order of the code, with its type and meaning, and advice."""
    rows = table("metrics.md", "metric", "type", "meaning", "when it is bad")
    assert [(row["metric"], row["type"]) for row in rows] == [(each.name, each.kind) for each in METRICS]
    for row, each in zip(rows, METRICS, strict=True):
        assert row["meaning"].startswith(each.meaning.rstrip(".")), each.name
        assert row["when it is bad"], each.name


def test_labels_of_metrics_are_told() -> None:
    """What a metric is labelled by is said in its meaning."""
    rows = {row["metric"]: row["meaning"] for row in table("metrics.md", "metric", "meaning")}
    for each in METRICS:
        assert not each.label or re.search(rf"\bby (\w+ )?{each.label}\b", rows[each.name]), each.name


def test_checks() -> None:
    """Each system check has one row with its id, in the order of the code, and when it speaks."""
    rows = table("settings.md", "check", "when", "tag")
    assert [(row["check"], row["tag"], row["when"]) for row in rows] == [
        (each.id, each.tag, each.when) for each in (*CHECKS, *MONITORING_CHECKS)
    ]


def test_close_codes() -> None:
    """Each close code has one row, in the order of the code, with its reason and what a client should do next."""
    rows = table("protocol.md", "code", "reason", "reconnect", "wait")
    assert [(row["code"], row["reason"], row["reconnect"], row["wait"]) for row in rows] == [
        (str(each.code), each.reason, "yes" if each.should_reconnect else "no", f"{each.wait_seconds:g} s")
        for each in CLOSE_CODES
    ]


def test_error_codes() -> None:
    """Each error code has one row; none has a row that is not in the code."""
    rows = [row for row in table("protocol.md", "code") if not row["code"].isdecimal()]
    assert sorted(row["code"] for row in rows) == sorted(each.code for each in ERRORS)


def setting_row(each: Any) -> dict[str, str]:
    """The row of docs/settings.md for one field of Settings."""
    return {
        "setting": each.name.upper(),
        "default": default_of(each),
        "unit": each.metadata["unit"],
        "bounds": bounds_of(each),
        "reason": each.metadata["reason"],
    }


def default_of(each: Any) -> str:
    """As one would write it in settings.REALTIME; behind a slash the one of development, where that is another."""
    defaults = [getattr(Settings(), each.name), each.metadata["in_development"]]
    values = [default for default in defaults if default is not None]
    return " / ".join(number(value) if each.type in ("int", "float") else repr(value) for value in values)


def bounds_of(each: Any) -> str:
    """What conf.py accepts."""
    if each.type not in ("int", "float"):
        return ""
    least, most = each.metadata["least"], each.metadata["most"]
    return f"≥ {number(least)}" if most == float("inf") else f"{number(least)} … {number(most)}"


def number(value: float) -> str:
    """As one would write it in Python."""
    return f"{int(value):_}" if value == int(value) else f"{value:g}"
