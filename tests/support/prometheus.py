"""A real Prometheus with our own configuration, on a free port, that scrapes some nodes."""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devtools.ports import free_port
from tests.support.cluster import require_program
from tests.support.processes import CHECKOUT, ServerProcess

SHIPPED = CHECKOUT / "monitoring" / "prometheus"
SCRAPE = "500ms"


def shipped(name: str) -> str:
    """One of the files in monitoring/prometheus/."""
    return (SHIPPED / name).read_text(encoding="utf-8")


def configuration(ports: Sequence[int]) -> str:
    """The shipped one with these nodes, and quick."""
    text, intervals = re.subn(r"_interval: \w+", f"_interval: {SCRAPE}", shipped("prometheus.yml"))
    lines = [f"          - 127.0.0.1:{port}\n" for port in ports]
    text, targets = re.subn(r"(?: {10}- 127\.0\.0\.1:\d+\n)+", "".join(lines), text)
    assert (intervals, targets) == (2, 1)
    return text


def impatient(rules: str) -> str:
    """Rules that fire at once: `for` is a fact of the clock and not of the cluster."""
    text, count = re.subn(r"(?m)^( +for): \w+$", r"\1: 0s", rules)
    assert count
    return text


class PrometheusServer(ServerProcess):
    """Prometheus; ``rules`` are the shipped ones unless others are given."""

    def __init__(self, directory: Path, ports: Sequence[int], rules: str | None = None) -> None:
        self.port = free_port()
        directory.mkdir(exist_ok=True)
        (directory / "prometheus.yml").write_text(configuration(ports))
        (directory / "rules.yml").write_text(rules or shipped("rules.yml"))
        command = [
            require_program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__("prometheus", command, os.environ, directory / "prometheus.log")

    def start(self) -> PrometheusServer:
        self.spawn()
        self.wait_until(lambda: self._get("/-/ready") is not None, "ready", 30)
        return self

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Every sample of an expression, now."""
        answer = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert answer is not None, expression
        assert answer["status"] == "success", answer
        result = answer["data"]["result"]
        if answer["data"]["resultType"] == "scalar":
            return [({}, float(result[1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def value(self, expression: str) -> float | None:
        """Of an expression with one sample; None while there is none."""
        samples = self.query(expression)
        assert len(samples) <= 1, samples
        return samples[0][1] if samples else None

    def firing(self) -> set[tuple[str, str]]:
        """Name and instance (or an empty text) of each alert that fires now."""
        answer = self._get("/api/v1/alerts")
        assert answer is not None
        return {
            (alert["labels"]["alertname"], alert["labels"].get("instance", ""))
            for alert in answer["data"]["alerts"]
            if alert["state"] == "firing"
        }

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            return json.loads(error.read()) if error.headers.get_content_type() == "application/json" else None
        except OSError:
            return None
        return json.loads(body) if body[:1] == b"{" else body
