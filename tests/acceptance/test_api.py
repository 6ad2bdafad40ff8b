"""realtime.api from every kind of Django code, over real nodes, without a new connection for each call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from realtime.auth import issue_token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import get, use_application
from tests.support.cluster import Cluster, http_status, run_manage
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer

MODULE = "tests.acceptance.other_project.publisher"
OTHER_PROJECT = {"DJANGO_SETTINGS_MODULE": "tests.acceptance.other_project.settings"}
APPLICATION = "tests.acceptance.other_project.asgi:application"
IN_ORDER = ["function", "threads", "loop", "loops", "fork", "worker"]
COUNT = 100
UNAVAILABLE_SECONDS = 2.5


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes of somebody else's project, whose views publish."""
    cluster = Cluster(redis_server.url, nodes=2, environment=OTHER_PROJECT)
    with use_application(cluster, APPLICATION):
        yield cluster


@pytest.fixture
async def pair(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """A member of the room "api" on each node."""
    return [await (await connect(node.url)).join("api") for node in module_cluster.nodes]


def connections_made(redis: RedisServer) -> int:
    """How many connections this Redis has ever accepted, without the one that asks."""
    answer = redis.command("INFO", "stats").decode()
    line = next(line for line in answer.splitlines() if line.startswith("total_connections_received:"))
    return int(line.partition(":")[2])


def publisher(environment: dict[str, str], how: str, count: int = COUNT) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", MODULE, how, "api", str(count)],
        cwd=CHECKOUT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def publish_warmed_up(cluster: Cluster, redis: RedisServer, how: str) -> int:
    """Let a program publish, and tell how many connections it made after its first publication."""
    with publisher(cluster.environment, how) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        warm = program.stdout.readline()
        before = connections_made(redis)
        program.stdin.write("\n")
        program.stdin.flush()
        done = program.stdout.readline()
        after = connections_made(redis) - 1  # the question itself is a connection
        _, errors = program.communicate(timeout=20)
    assert (warm, done, program.returncode, errors) == ("warm\n", "done\n", 0, "")
    return after - before


@pytest.mark.parametrize("how", [*IN_ORDER, "pool"])
async def test_a_program_without_a_node_publishes(
    module_cluster: Cluster, redis_server: RedisServer, pair: list[Client], how: str
) -> None:
    """From a function, threads, a loop, a new loop for each call, a fork and a worker: clients of all nodes get it all,
    in order where the calls have one, and the hundred calls make no connection to Redis."""
    made = await asyncio.to_thread(publish_warmed_up, module_cluster, redis_server, how)
    for client in pair:
        await receive_all(client)
        came = numbers(client)
        assert (came if how in IN_ORDER else sorted(came)) == list(range(COUNT))
        assert {push["from"] for push in client.pushes("room")} == {None}
    assert made == 0


async def receive_all(client: Client) -> None:
    await client.until(lambda: len(numbers(client)) >= COUNT, "all numbers")


def numbers(client: Client) -> list[int]:
    return [push["data"] for push in client.pushes("room") if isinstance(push["data"], int)]


@pytest.mark.parametrize("view", ["publish", "apublish"])
async def test_a_view_publishes(
    module_cluster: Cluster, redis_server: RedisServer, pair: list[Client], view: str
) -> None:
    """A synchronous or asynchronous view publishes through its own node: no connection is made for it."""
    url = f"{module_cluster.nodes[0].http_url}/{view}?room=api&text="
    await asyncio.to_thread(get, f"{url}warm")
    before = connections_made(redis_server)
    for number in range(20):
        await asyncio.to_thread(get, f"{url}{number}")
    assert connections_made(redis_server) - 1 == before
    for client in pair:
        await client.expect("room", data="19")
        assert [push["data"] for push in client.pushes("room")] == ["warm", *map(str, range(20))]


async def test_a_view_publishes_in_private(module_cluster: Cluster, pair: list[Client]) -> None:
    """To a connection of another node, and to a user."""
    await pair[0].do("authenticate", token=issue_token("5"))
    for to, recipient in ((pair[1].id, pair[1]), ("user:5", pair[0])):
        url = f"{module_cluster.nodes[0].http_url}/publish?room=other&text=psst&to={to}"
        await asyncio.to_thread(get, url)
        assert await recipient.expect("private") == {"type": "private", "from": None, "data": "psst"}


async def test_a_management_command_publishes(module_cluster: Cluster, pair: list[Client]) -> None:
    """`manage.py publish` reaches rooms, everybody, a connection and a user on any node."""
    await pair[1].do("authenticate", token=issue_token("6"))
    recipients = (["room", "api"], ["broadcast"], ["private", pair[1].id], ["private", "user:6"])
    for number, words in enumerate(recipients):
        await asyncio.to_thread(module_cluster.manage, "publish", *words, f'{{"n": {number}}}')
    for client in pair:
        assert await client.expect("room") == {"type": "room", "room": "api", "from": None, "data": {"n": 0}}
        assert await client.expect("broadcast") == {"type": "broadcast", "from": None, "data": {"n": 1}}
    for number in (2, 3):
        assert (await pair[1].expect("private"))["data"] == {"n": number}
    assert pair[0].waiting == []


@pytest.mark.parametrize("fault", ["down", "frozen"])
def test_a_dead_backplane_is_told_in_time(own_redis: RedisServer, fault: str) -> None:
    """With Redis down, or standing still, each call raises BackplaneUnavailable within 2.5 s; the command says so."""
    cluster = Cluster(own_redis.url, nodes=0, environment=OTHER_PROJECT)
    try:
        if fault == "down":
            own_redis.kill()
        else:
            own_redis.pause()
        with publisher(cluster.environment, "failing", 3) as program:
            output, errors = program.communicate(timeout=20)
        outcomes = [line.split() for line in output.splitlines()]
        assert [outcome for outcome, _ in outcomes] == ["unavailable"] * 3
        assert "Traceback" not in errors
        assert max(float(seconds) for _, seconds in outcomes) < UNAVAILABLE_SECONDS
        done = run_manage(cluster.environment, "publish", "broadcast", "1")
        assert done.returncode == 1
        assert "unavailable" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        if fault == "frozen":
            own_redis.resume()
        cluster.stop()


async def test_a_node_publishes_again_after_an_outage(own_redis: RedisServer, connect: Connect) -> None:
    """While Redis is down a view gets BackplaneUnavailable at once; afterwards the same call works."""
    cluster = Cluster(own_redis.url, nodes=1, environment=OTHER_PROJECT)
    with use_application(cluster, APPLICATION):
        node = cluster.nodes[0]
        client = await (await connect(node.url)).join("api")
        own_redis.kill()
        await asyncio.to_thread(node.wait_not_ready)
        began = time.monotonic()
        assert await asyncio.to_thread(http_status, node.port, "/publish?room=api&text=lost") == 503
        assert time.monotonic() - began < 1
        own_redis.start()
        await asyncio.to_thread(node.wait_ready)
        assert await asyncio.to_thread(http_status, node.port, "/publish?room=api&text=found") == 200
        await client.expect("room", data="found")
        assert [push["data"] for push in client.pushes("room")] == ["found"]
