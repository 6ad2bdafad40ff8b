"""Balancers in front of real nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import Cluster, NginxProxy
from tests.support.haproxy import HaproxyProxy
from tests.support.servers import RedisServer

Proxy = NginxProxy | HaproxyProxy
InFront = Callable[..., Any]

KINDS: dict[str, type[NginxProxy] | type[HaproxyProxy]] = {"nginx": NginxProxy, "haproxy": HaproxyProxy}


@pytest.fixture(scope="module")
def nodes(redis_server: RedisServer) -> Iterator[Cluster]:
    """Three nodes, shared by the tests of one file, none of which stops anything."""
    with Cluster(redis_server.url, nodes=3) as cluster:
        yield cluster


@pytest.fixture
def in_front(tmp_path: Path) -> Iterator[InFront]:
    """Starts a balancer, `in_front("nginx", cluster, strategy="hash")`, and ends it after the test."""
    started: list[Proxy] = []

    def start(kind: str, cluster: Cluster, **changes: Any) -> Proxy:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        ports = [node.port for node in cluster.nodes if node.is_running]
        started.append(KINDS[kind](ports, directory, **changes))
        return started[-1].start()

    yield start
    for each in started:
        each.kill()
