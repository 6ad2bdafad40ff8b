"""Secrets that a cluster was given are in nothing that it says."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from devtools.ports import free_port
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import get
from tests.support.cluster import Cluster, run_manage
from tests.support.raw_http import request, send
from tests.support.servers import RedisServer

PASSWORD = "planted-redis"
SECRETS = {
    "DJANGO_SECRET_KEY": "planted-secret-key-of-this-test-long-enough-0123456789",
    "BACKPLANE_KEYS": "planted-new-key-0123456789-0123456789,planted-old-key-0123456789-0123456789",
    "REALTIME_HEALTH_TOKEN": "planted-health-token",
    "REALTIME_METRICS_TOKEN": "planted-metrics-token",
    "REALTIME_TOKEN_KEYS": "planted-token-key-0123456789-0123456789",
}
PLANTED = "planted-"
DATABASE_PASSWORD = "planted-database"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(password=PASSWORD) as server:
        yield server


@pytest.fixture
def cluster(redis: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    """One node with its secrets in files, and one without a database that is there; both say all that they can."""
    secrets = {**SECRETS, "BACKPLANE_URL": f"redis://:{quote(PASSWORD)}@127.0.0.1:{redis.port}/0"}
    for name, secret in secrets.items():
        (tmp_path / name).write_text(f"{secret}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in secrets}
    environment = {**files, "BACKPLANE_URL": "", "LOG_LEVEL": "DEBUG"}
    cluster = Cluster("", nodes=2, environment=environment)
    lost = f"postgres://somebody:{DATABASE_PASSWORD}@127.0.0.1:{free_port()}/nothing"
    cluster.nodes[1].environment["DATABASE_URL"] = lost
    with cluster:
        yield cluster


async def test_no_secret_is_told(cluster: Cluster, redis: RedisServer, connect: Connect) -> None:
    """A node starts, loses its backplane, does not get in again for a wrong password, loses its database, stops: no
    log line, page, command or error has a secret in it."""
    first, second = cluster.nodes
    one, other = await asyncio.gather(connect(first.url), connect(second.url))
    await one.join("lobby")
    await other.join("lobby")
    await one.do("room", room="lobby", data="heard")
    await other.expect("room", data="heard")
    told = [get(f"{first.http_url}/metrics"), get(f"{first.http_url}/health/ready")]
    bearer = f"Bearer {SECRETS['REALTIME_HEALTH_TOKEN']}"
    told.append(str(send(first.port, request("/health/", Authorization=bearer)).raw))
    assert "backplane" in told[-1]

    redis.kill()
    await asyncio.to_thread(first.wait_not_ready)
    redis.password = "another"
    redis.start()
    commands = ("check --deploy", "health", "rooms", "publish broadcast 1")
    told += await asyncio.gather(*(asyncio.to_thread(say, cluster, command) for command in commands))
    await asyncio.to_thread(second.kill)
    second.spawn()  # now the password is wrong from the beginning
    await asyncio.to_thread(second.wait_until, lambda: "WRONGPASS" in second.log, "refused by Redis")
    assert await asyncio.to_thread(first.stop) == 0
    told += [first.log, second.log]
    for text in told:
        assert PLANTED not in text, text[text.index(PLANTED) - 500 :][:1000]
    assert "error" in second.log


def say(cluster: Cluster, command: str) -> str:
    """What a command says, whether it succeeds or not."""
    done = run_manage(cluster.environment, *command.split())
    return done.stdout + done.stderr
