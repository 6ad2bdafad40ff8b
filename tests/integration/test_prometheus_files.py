"""What monitoring/ ships for Prometheus and Grafana, looked at by promtool and compared with the code."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.catalog import METRICS
from tests.support.cluster import require_program
from tests.support.dashboard import dashboard, expressions, panels
from tests.support.prometheus import SHIPPED, configuration, impatient, shipped
from tests.support.tables import table

LIBRARIES = re.compile(r"(process|django|python)_\w+")
WORDS = re.compile(r"\b(?:websocket|realtime|process|django|python)_\w+")
ALERTS = re.findall(r"- alert: (\w+)", shipped("rules.yml"))


def promtool(*arguments: str, directory: Path = SHIPPED) -> subprocess.CompletedProcess[str]:
    command = [require_program("promtool"), *arguments]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=60)


def names_in_catalog() -> set[str]:
    names = {metric.name for metric in METRICS}
    for metric in METRICS:
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
    return names


def unknown_metrics(expression: str) -> set[str]:
    return {name for name in WORDS.findall(expression) if not LIBRARIES.fullmatch(name)} - names_in_catalog()


def test_promtool_takes_configuration_and_rules() -> None:
    """As delivered."""
    for what, name in (("config", "prometheus.yml"), ("rules", "rules.yml")):
        done = promtool("check", what, name)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_cases_of_the_rules_hold() -> None:
    """Each alert fires where it must, with its words, and is silent where it must be."""
    done = promtool("test", "rules", "rules_test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", [("> 0.1", "> 0.9"), ("== 0", "== 7"), ("page", "ticket"), ("for: 2m", "for: 9m")])
def test_the_cases_notice_a_wrong_rule(tmp_path: Path, change: tuple[str, str]) -> None:
    """A changed threshold, severity or time makes a case fail."""
    (tmp_path / "rules.yml").write_text(shipped("rules.yml").replace(*change))
    (tmp_path / "rules_test.yml").write_text(shipped("rules_test.yml"))
    assert promtool("test", "rules", "rules_test.yml", directory=tmp_path).returncode != 0


def test_each_alert_has_two_cases_and_a_row_of_advice() -> None:
    """One that fires, one that does not; docs/operations.md says what to do, in the order of the rules."""
    cases = re.findall(r"- name: (\w+ .+)", shipped("rules_test.yml"))
    assert cases == [f"{alert} {kind}" for alert in ALERTS for kind in ("fires", "is silent")]
    rows = table("operations.md", "alert", "what to do")
    severities = re.findall(r"severity: (\w+)", shipped("rules.yml"))
    assert [(row["alert"], row["severity"]) for row in rows] == list(zip(ALERTS, severities, strict=True))
    assert all(row["what to do"] for row in rows)


def test_rules_use_metrics_that_exist() -> None:
    """A metric that was renamed would make an alert silent for ever."""
    for expression in re.findall(r"expr: (?:>-\n)?((?:.+\n?)+?)(?= +(?:for|labels):)", shipped("rules.yml")):
        assert unknown_metrics(expression) == set(), expression
    assert unknown_metrics("realtime_no_such_metric > 0") == {"realtime_no_such_metric"}


def test_the_dashboard_uses_metrics_that_exist() -> None:
    """Every expression names at least one, and none that is not there."""
    assert expressions()
    for expression in expressions():
        assert WORDS.search(expression) or "ALERTS" in expression, expression
        assert unknown_metrics(expression) == set(), expression


def test_the_dashboard_is_as_grafana_takes_it() -> None:
    """No id of another installation, one uid, panels with ids of their own that lie side by side on 24 columns."""
    board = dashboard()
    assert (board["uid"], board.get("id")) == ("realtime-cluster", None)
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "job", "instance"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert {panel["type"] for panel in board["panels"]} == {"row", "stat", "timeseries"}  # no plugin to install
    assert board["schemaVersion"] >= 36  # data sources by uid, which the variable gives: nothing to ask at the import
    assert "__inputs" not in board
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board)))
    assert used == {"datasource", "job", "instance", "__rate_interval", "__all"}
    for variable in board["templating"]["list"][1:]:
        assert variable["query"].startswith("label_values(")
        assert unknown_metrics(variable["query"]) == set()
    for panel in panels():
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0


def test_the_tests_change_times_and_targets_only(tmp_path: Path) -> None:
    """What the running tests give to Prometheus is the shipped configuration otherwise."""
    changed = configuration([1234]).splitlines()
    kept = [line for line in shipped("prometheus.yml").splitlines() if line in changed]
    assert len(kept) == len(shipped("prometheus.yml").splitlines()) - 5  # two intervals, three targets
    (tmp_path / "rules.yml").write_text(impatient(shipped("rules.yml")))
    assert promtool("check", "rules", "rules.yml", directory=tmp_path).returncode == 0
