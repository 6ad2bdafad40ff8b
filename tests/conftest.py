"""Fixtures that tests of several kinds share."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.cluster import Cluster
from tests.support.kafka import KafkaServer, archive_classes
from tests.support.rabbitmq import RabbitServer
from tests.support.servers import RedisServer

CLUSTERS = pytest.StashKey[list[Cluster]]()
KAFKA = pytest.StashKey[str]()  # the broker that the run used
SLOW = (
    *(f"tests/acceptance/{name}/" for name in ("abuse", "backplanes", "balancers", "crash", "health", "limits")),
    *(f"tests/acceptance/{name}/" for name in ("on_uvicorn", "operating", "scraped", "upgrade")),
    *(f"tests/acceptance/engine/test_{name}.py" for name in ("back_pressure", "server_ping", "slow_reader")),
    *(f"tests/acceptance/test_{name}.py" for name in ("client_js_live", "client_js_shared", "make_run_brokers")),
    "tests/acceptance/admin/test_browser.py",
    "tests/acceptance/test_stock_layers.py",
    "tests/acceptance/your_project/test_clashes.py",
    "tests/contract/test_kafka_brokers.py",
    "tests/contract/test_outages.py",
)
"""Attacks, faults, and second servers and brokers: what takes long, and is not what most changes break."""
ALONE = (
    *(f"tests/acceptance/{name}/" for name in ("abuse", "crash", "engine", "health", "limits", "on_uvicorn")),
    *(f"tests/acceptance/{name}/" for name in ("scraped", "soak")),
    *(f"tests/acceptance/test_{name}.py" for name in ("api", "members", "messages", "node_killed", "redis_outage")),
    *(f"tests/acceptance/test_{name}.py" for name in ("redis_topologies", "shutdown")),
    "tests/acceptance/operating/test_live_commands.py",
    "tests/acceptance/socketio/test_mixed_room.py",
    *(f"tests/contract/test_{name}_layer.py" for name in ("kafka", "memory", "rabbitmq")),
    "tests/contract/test_outages.py",
    "tests/integration/test_admin_speed.py",
    "tests/integration/test_tracking_outages.py",
)
"""What measures times, processors or memory, or holds the product to seconds: nothing else runs meanwhile."""
TOGETHER = {
    "tests/acceptance/backplanes/": "brokers",
    "tests/acceptance/balancers/test_scenario.py": "brokers",
    "tests/acceptance/socketio/": "socketio",
    "tests/acceptance/your_project/": "your_project",
    "tests/contract/": "brokers",
}
"""Tests that share what takes long to start or build: they run in one process. Elsewhere those of one file do."""
LOG_TAIL = 6_000  # characters of each log that a failed test shows
StartCluster = Callable[..., Cluster]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="repeat a run with the seed that it printed")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        config.option.seed = random.SystemRandom().randrange(10**9)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what SLOW and ALONE list, whole directories and files."""
    for item in items:
        if item.nodeid.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
        if item.nodeid.startswith(ALONE):
            item.add_marker(pytest.mark.alone)


class Together(LoadScopeScheduling):  # type: ignore[misc]
    """Gives the tests of one file, or of TOGETHER, to one process."""

    def _split_scope(self, nodeid: str) -> str:
        shared = (group for prefix, group in TOGETHER.items() if nodeid.startswith(prefix))
        return next(shared, nodeid.partition("::")[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (the same again: --seed={config.option.seed})"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows the logs of its clusters."""
    report = yield
    if report.failed:
        for cluster in item.stash.get(CLUSTERS, []):
            report.sections += [(f"log of {name}", log[-LOG_TAIL:]) for name, log in cluster.logs()]
    return report


@pytest.fixture(scope="session")
def django_db_modify_db_settings_xdist_suffix() -> None:
    """A name for each process's database: not needed, as the tests' own is in memory."""


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers that `--seed` repeats, different for each test."""
    return random.Random(f"{request.config.option.seed} {request.node.nodeid}")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One Redis for all tests that do not stop it; each uses a prefix of its own."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq_process() -> Iterator[RabbitServer]:
    """One RabbitMQ for the run; see `rabbitmq_server`."""
    with RabbitServer() as server:
        yield server


@pytest.fixture
def rabbitmq_server(rabbitmq_process: RabbitServer) -> RabbitServer:
    """A RabbitMQ that runs. The test may kill, pause and restart it, and uses a prefix of its own."""
    if rabbitmq_process.is_running:
        rabbitmq_process.resume()
    return rabbitmq_process.start()


@pytest.fixture(scope="session")
def kafka_process(request: pytest.FixtureRequest) -> Iterator[KafkaServer]:
    """One Kafka for the run; see `kafka_server`."""
    archive_classes()
    with KafkaServer() as server:
        name = server.broker.name
        request.config.stash[KAFKA] = name
        getattr(request.config, "workeroutput", {})["kafka"] = name
        yield server


@pytest.fixture
def kafka_server(kafka_process: KafkaServer) -> KafkaServer:
    """A Kafka that runs, and has the three topics. The test may kill, pause and restart it."""
    if kafka_process.is_running:
        kafka_process.resume()
    return kafka_process.start().wait_until_ready()


def pytest_testnodedown(node: Any) -> None:
    """One of the processes of a run has ended; what it found out."""
    if name := getattr(node, "workeroutput", {}).get("kafka"):
        node.config.stash[KAFKA] = name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Which broker it was differs from machine to machine."""
    if broker := config.stash.get(KAFKA, None):
        terminalreporter.write_line(f"The tests on Kafka ran on {broker}.")


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that the test may kill, pause and restart."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def start_cluster(request: pytest.FixtureRequest) -> Iterator[StartCluster]:
    """Starts a cluster: `start_cluster(nodes=2, nginx=True, redis=own_redis, environment={…})`."""
    clusters = request.node.stash.setdefault(CLUSTERS, [])

    def start(*, redis: RedisServer | None = None, **options: Any) -> Cluster:
        server = redis or request.getfixturevalue("redis_server")
        cluster = Cluster(server.url, **options)
        clusters.append(cluster)
        return cluster.start()

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def cluster(start_cluster: StartCluster) -> Cluster:
    """Three nodes behind nginx, for this test alone."""
    return start_cluster(nodes=3, nginx=True)


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Three nodes behind nginx, shared by the tests of one file, none of which stops anything."""
    with Cluster(redis_server.url, nodes=3, nginx=True) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _remember_module_cluster(request: pytest.FixtureRequest) -> None:
    """Lets a failed test show the logs of the cluster that it shares."""
    if "module_cluster" in request.fixturenames:
        shared = request.getfixturevalue("module_cluster")
        request.node.stash.setdefault(CLUSTERS, []).append(shared)
