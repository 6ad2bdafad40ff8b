"""The dashboard for Grafana that monitoring/ ships."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.support.processes import CHECKOUT


def dashboard() -> dict[str, Any]:
    """As it is imported."""
    board: dict[str, Any] = json.loads((CHECKOUT / "monitoring" / "grafana" / "dashboard.json").read_text())
    return board


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Every query of every panel, with the variables that Grafana would put in."""
    return [expression for expression, _ in queries()]


def queries() -> list[tuple[str, set[str]]]:
    """The same, each with the labels that its legend shows."""
    return [
        (
            target["expr"].replace("$job", "realtime").replace("$instance", ".*").replace("$__rate_interval", "1m"),
            set(re.findall(r"{{(\w+)}}", target.get("legendFormat", ""))),
        )
        for panel in panels()
        for target in panel["targets"]
    ]
