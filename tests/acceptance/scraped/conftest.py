"""Starts Prometheus beside a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cluster import DaphneNode
from tests.support.prometheus import PrometheusServer

Scrape = Callable[..., PrometheusServer]


@pytest.fixture
def scrape(tmp_path: Path) -> Iterator[Scrape]:
    """`scrape(nodes, rules=…)`: a Prometheus that scrapes these nodes; gone after the test."""
    started: list[PrometheusServer] = []

    def start(nodes: list[DaphneNode], rules: str | None = None) -> PrometheusServer:
        started.append(PrometheusServer(tmp_path / "prometheus", [node.port for node in nodes], rules))
        return started[-1].start()

    yield start
    for server in started:
        server.kill()
