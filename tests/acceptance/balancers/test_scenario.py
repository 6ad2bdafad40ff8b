"""The same scenario behind each balancer."""

from __future__ import annotations

import pytest

from tests.acceptance.balancers.conftest import KINDS, InFront
from tests.acceptance.balancers.scenario import run_scenario
from tests.acceptance.conftest import Connect
from tests.conftest import StartCluster


@pytest.mark.parametrize("kind", KINDS)
async def test_three_nodes_and_the_loss_of_one(
    start_cluster: StartCluster, in_front: InFront, connect: Connect, kind: str
) -> None:
    """Broadcast, room and private messages reach whom they should, before and after a node is killed and is back."""
    cluster = start_cluster(nodes=3)
    balancer = in_front(kind, cluster)
    await run_scenario(cluster, connect, balancer.url)
