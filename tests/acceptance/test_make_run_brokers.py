"""`make run` on the other brokers, each where the environment knows its scheme."""

from __future__ import annotations

import signal

import httpx
import pytest

from config.env import LAYERS
from devtools import rabbitmq
from devtools.kafka import find_broker
from tests.acceptance.test_make_run import StartMakeRun, make_run
from tests.support.servers import require

__all__ = ["make_run"]

BROKERS = {"rabbitmq": ("amqp", "RabbitMQ"), "kafka": ("kafka", "Kafka")}


@pytest.mark.slow
@pytest.mark.parametrize("backplane", [name for name, (scheme, _) in BROKERS.items() if scheme in LAYERS])
def test_the_cluster_runs_on_another_broker(make_run: StartMakeRun, backplane: str) -> None:
    """BACKPLANE starts that broker and joins the nodes by it; the demo page names it; Ctrl-C ends all of it."""
    require_broker(backplane)
    scheme, name = BROKERS[backplane]
    run = make_run(NODES="2", BACKPLANE=backplane)
    run.wait_for(rf"^backplane +{scheme}://127\.0\.0\.1:\d+")
    run.wait_for(r"^ready ")
    for port in (run.node_port, run.node_port + 1):
        assert f'"backplane": "{name}' in httpx.get(f"http://127.0.0.1:{port}/").text
    assert run.end(signal.SIGINT) == 0
    run.assert_nothing_is_left()


def require_broker(backplane: str) -> None:
    if backplane == "rabbitmq":
        require(str(rabbitmq.SCRIPT) if rabbitmq.SCRIPT.exists() else None, "rabbitmq-server is not installed")
    else:
        broker = find_broker()
        require(broker.program if broker else None, "no Kafka broker is there")
