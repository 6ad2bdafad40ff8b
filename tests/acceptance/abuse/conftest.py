"""Nodes under siege: those that all attacks share, and those with settings or an application of their own.

How to write an attack: a function of the test's module that is given a ``Target``, does what an attacker does for about
``target.seconds``, asserts what an attacker gets to see, and leaves nothing open; and a test that calls
``siege.withstand(attack, metric=…, log=…)``. ``oracle.py`` says what that asserts. ``Peer`` (`target.connect()`) sends
any bytes, ``frame``, ``head`` and ``text`` of `tests.acceptance.engine.peer` build them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.abuse.siege import PRODUCTION, Siege
from tests.acceptance.nodes import use_application
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

StartSiege = Callable[..., Siege]
BOTH = ["daphne", pytest.param("uvicorn", marks=pytest.mark.slow)]
ON_BOTH = pytest.mark.parametrize("siege", BOTH, indirect=True)


def start(
    redis: RedisServer,
    seed: object,
    *,
    servers: tuple[str, ...] = ("daphne",),
    application: str = "",
    **settings: object,
) -> Siege:
    """Nodes that run, with the limits of production but for ``settings`` of REALTIME."""
    environment = {**PRODUCTION, **{f"REALTIME_{name}": str(value) for name, value in settings.items()}}
    cluster = Cluster(redis.url, nodes=servers.count("daphne"), environment=environment)
    for _ in range(servers.count("uvicorn")):
        add_uvicorn(cluster, *UNCOMPRESSED)
    if application:
        use_application(cluster, application)
    return Siege(cluster.start(), redis, seed)


@pytest.fixture(scope="package")
def sieges(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[dict[str, Siege]]:
    """One node for each server, once it is needed."""
    started: dict[str, Siege] = {}
    yield started
    for each in started.values():
        each.cluster.stop()


@pytest.fixture
def siege(request: pytest.FixtureRequest, redis_server: RedisServer, sieges: dict[str, Siege]) -> Siege:
    """A node on daphne (with ``ON_BOTH`` on uvicorn as well) that this test shares with others."""
    server = getattr(request, "param", "daphne")
    if server not in sieges:
        sieges[server] = start(redis_server, request.config.option.seed, servers=(server,))
    request.node.stash.setdefault(CLUSTERS, []).append(sieges[server].cluster)
    return sieges[server]


@pytest.fixture
def start_siege(request: pytest.FixtureRequest) -> Iterator[StartSiege]:
    """Starts nodes for this test alone: `start_siege(own_redis, servers=("daphne", "daphne"), INBOX_MAX_BYTES=1)`."""
    clusters = request.node.stash.setdefault(CLUSTERS, [])

    def begin(redis: RedisServer | None = None, **options: object) -> Siege:
        server = redis or request.getfixturevalue("redis_server")
        siege = start(server, request.config.option.seed, **options)  # type: ignore[arg-type]
        clusters.append(siege.cluster)
        return siege

    yield begin
    for each in clusters:
        each.stop()
