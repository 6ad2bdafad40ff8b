"""The same scenario behind each balancer, on each backplane."""

from __future__ import annotations

import pytest

from tests.acceptance.balancers.conftest import KINDS, InFront
from tests.acceptance.balancers.scenario import run_scenario
from tests.acceptance.conftest import Connect
from tests.conftest import StartCluster
from tests.support.servers import Server


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backplane", ["own_redis", "rabbitmq_server", "kafka_server"])
async def test_losses_of_a_node_and_of_the_broker(
    start_cluster: StartCluster,
    in_front: InFront,
    connect: Connect,
    request: pytest.FixtureRequest,
    backplane: str,
    kind: str,
) -> None:
    """Broadcast, room and private messages reach whom they should, before and after a node, and then the broker, is
    killed and is back."""
    broker: Server = request.getfixturevalue(backplane)
    cluster = start_cluster(nodes=3, redis=broker)
    balancer = in_front(kind, cluster)
    await run_scenario(cluster, connect, balancer.url, broker)
