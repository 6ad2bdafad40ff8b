"""Metrics and health of a process with a node, and of one without."""

from __future__ import annotations

import asyncio
import inspect
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import fields
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from monitoring.catalog import METRICS
from monitoring.collector import RealtimeCollector, collector, loop_lag
from monitoring.metrics import PrometheusInstrument
from realtime.conf import DEVELOPMENT
from realtime.exceptions import BackplaneUnavailable
from realtime.instrument import Instrument
from realtime.protocol.closing import SLOW_CONSUMER
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime, set_instrument
from realtime.statistics import Totals
from tests.support.servers import require

REQUIRED = {
    "websocket_connected_clients": ("gauge", None),
    "websocket_messages_received_total": ("counter", None),
    "websocket_messages_sent_total": ("counter", None),
    "websocket_connection_duration_seconds": ("histogram", [1, 5, 10, 30, 60, 300, 600, 1800, 3600]),
    "websocket_message_latency_seconds": ("histogram", [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1]),
}


@pytest.fixture
async def process(settings: Settings) -> AsyncIterator[Runtime]:
    """This process with a running node, whose instrument counts from zero."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "TRACKING_IS_ON": False, "HEARTBEAT_SECONDS": 0.2}
    process = runtime()
    process.reload_settings()
    collector.instrument = PrometheusInstrument()
    set_instrument(collector.instrument)
    await process.start()
    assert process.node is not None
    async with asyncio.timeout(5):
        while not process.node.is_ready:
            await asyncio.sleep(0.005)
    yield process
    await process.stop()
    process.reload_settings()


async def no_route(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(no_route)


async def connect() -> tuple[WebsocketCommunicator, dict[str, Any]]:
    """A client, and its welcome."""
    client = WebsocketCommunicator(cast(Any, application), "/ws/")
    is_accepted, _ = await client.connect()
    assert is_accepted
    return client, json.loads(await client.receive_from(5))


async def ask(client: WebsocketCommunicator, **command: object) -> Any:
    await client.send_to(json.dumps(command))
    return json.loads(await client.receive_from(5))


def samples(text: str) -> dict[str, float]:
    """Each sample as `name{label="value",…}`."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


async def scrape() -> dict[str, float]:
    response = await AsyncClient().get("/metrics")
    assert response.status_code == 200
    return samples(response.content.decode())


def exposed(instrument: PrometheusInstrument) -> dict[str, float]:
    """What a scrape of a process with this instrument would show."""
    registry = CollectorRegistry()
    own = RealtimeCollector()
    own.instrument = instrument
    registry.register(own)
    return samples(generate_latest(registry).decode())


def test_the_required_metrics_have_their_names_types_and_buckets() -> None:
    """The five metrics of the reference design, without labels."""
    text = Client().get("/metrics").content.decode()
    for name, (kind, bounds) in REQUIRED.items():
        assert f"# TYPE {name} {kind}\n" in text
        if bounds is None:
            assert any(line.startswith(f"{name} ") for line in text.splitlines())
        else:
            buckets = [line for line in text.splitlines() if line.startswith(f"{name}_bucket")]
            assert [line.split('"')[1] for line in buckets] == [*(str(float(bound)) for bound in bounds), "+Inf"]
            assert all(line.startswith(f'{name}_bucket{{le="') for line in buckets)


def test_every_metric_of_the_catalog_is_exposed_with_its_type() -> None:
    """What docs/metrics.md lists is what Prometheus gets."""
    text = Client().get("/metrics").content.decode()
    for metric in METRICS:
        kind = "gauge" if metric.kind == "info" else metric.kind
        assert f"# TYPE {metric.name} {kind}\n" in text, metric.name


def test_promtool_finds_nothing_to_say() -> None:
    """Prometheus's own linter takes the page."""
    promtool = require(shutil.which("promtool"), "promtool is not installed (Debian: prometheus)")
    registry = CollectorRegistry()
    registry.register(RealtimeCollector())
    found = subprocess.run([promtool, "check", "metrics"], input=generate_latest(registry), capture_output=True)
    assert (found.returncode, found.stderr.decode()) == (0, "")


@pytest.mark.parametrize(
    "name", [name for name, _ in inspect.getmembers(Instrument, inspect.isfunction) if name != "totals"]
)
def test_every_fact_shows(name: str) -> None:
    """Each fact that the core can tell changes some metric."""
    instrument = PrometheusInstrument()
    arguments = {"transport": "websocket", "reason": "origin", "code": 1006, "seconds": 0.5, "close": SLOW_CONSUMER}
    arguments |= {"kind": "poll", "page": "metrics", "limit": "connection"}
    if name == "command_refused":
        arguments["code"] = "bad_json"
    wanted = list(inspect.signature(getattr(instrument, name)).parameters)
    before = exposed(PrometheusInstrument())
    getattr(instrument, name)(*(arguments.get(parameter, 3) for parameter in wanted))
    assert exposed(instrument) != before


TOTALS = {
    "connections_opened": "realtime_connections_opened_total",
    "connections_refused": "realtime_connections_refused_total",
    "connections_evicted": "realtime_connections_evicted_total",
    "messages_in": "websocket_messages_received_total",
    "messages_out": "websocket_messages_sent_total",
    "bytes_in": "realtime_received_bytes_total",
    "bytes_out": "realtime_sent_bytes_total",
    "publications_in": "realtime_publications_delivered_total",
    "publications_out": "realtime_publications_published_total",
    "deliveries": "realtime_deliveries_total",
    "errors": "realtime_errors_total",
    "publish_failures": "realtime_publish_failures_total",
    "missed_notices": "realtime_missed_notices_total",
    "rows_lost": "realtime_tracking_lost_rows_total",
}
HISTOGRAMS_OF_TOTALS = {
    "latency": "websocket_message_latency_seconds",
    "lag": "realtime_delivery_lag_seconds",
    "echo": "realtime_echo_seconds",
    "batch": "realtime_batch_envelopes",
}


def test_a_heartbeat_says_what_prometheus_says() -> None:
    """Each counter and histogram of the statistics is that of one metric."""
    instrument = PrometheusInstrument()
    instrument.opened["websocket"], instrument.refused["origin"], instrument.refused["path"] = 1, 2, 3
    instrument.evicted["slow_consumer"], instrument.errors["forbidden"] = 7, 11
    instrument.commands, instrument.received_bytes, instrument.other_sent, instrument.sent_bytes = 13, 17, 19, 23
    instrument.delivered, instrument.deliveries, instrument.published = 29, 31, 37
    instrument.publish_failures, instrument.missed_notices, instrument.rows_lost = 41, 43, 47
    for number, histogram in enumerate((instrument.latencies, instrument.lags, instrument.echoes, instrument.batches)):
        for _ in range(number + 1):
            histogram.observe(0.02 + number)
    found, totals = exposed(instrument), instrument.totals()
    assert {*TOTALS, *HISTOGRAMS_OF_TOTALS} == {each.name for each in fields(Totals)}
    for name, metric in TOTALS.items():
        shown = sum(value for sample, value in found.items() if sample.partition("{")[0] == metric)
        assert getattr(totals, name) == shown > 0, name
    for name, metric in HISTOGRAMS_OF_TOTALS.items():
        observed = getattr(totals, name)
        assert (observed.count, observed.sum) == (found[f"{metric}_count"], found[f"{metric}_sum"]), name
        assert observed.count > 0


def test_histograms_count_what_is_on_a_bound_under_it() -> None:
    """Buckets are cumulative, and a value that equals a bound belongs to it."""
    instrument = PrometheusInstrument()
    for seconds in (0.0, 1.0, 1.5, 5000.0):
        instrument.connection_closed("websocket", 1000, seconds)
    found = exposed(instrument)
    name = "websocket_connection_duration_seconds"
    assert [found[f'{name}_bucket{{le="{bound}"}}'] for bound in ("1.0", "5.0", "3600.0", "+Inf")] == [2, 3, 3, 4]
    assert (found[f"{name}_sum"], found[f"{name}_count"]) == (5002.5, 4)


def test_invented_close_codes_share_one_label() -> None:
    """A client cannot make a new time series for each of the 2,000 codes that are its own."""
    instrument = PrometheusInstrument()
    for code in range(3000, 5000):
        instrument.connection_closed("websocket", code, 1)
    codes = {name: value for name, value in exposed(instrument).items() if value and "connections_closed" in name}
    assert codes == {
        **{f'realtime_connections_closed_total{{code="{code}"}}': 1.0 for code in (4001, 4003, 4008)},
        'realtime_connections_closed_total{code="other"}': 1997.0,
    }


async def test_a_conversation_is_counted(process: Runtime) -> None:
    """Connected clients, messages received and sent, deliveries and rooms are those that really were."""
    alice, _ = await connect()
    bob, _ = await connect()
    for client in (alice, bob):
        await ask(client, type="join", room="lobby")
    await ask(alice, type="room", room="lobby", data=1, ref=1)
    await bob.receive_from(5)
    await ask(alice, type="no such type")

    found = await scrape()
    assert found["websocket_connected_clients"] == 2
    assert found["realtime_rooms"] == 1
    assert found["websocket_messages_received_total"] == 4
    # 2 welcome, 2 joined, 1 ack, 1 room message, 1 error
    assert found["websocket_messages_sent_total"] == 7
    assert found["websocket_message_latency_seconds_count"] == 4
    assert found["realtime_deliveries_total"] == 1
    assert found['realtime_errors_total{code="unknown_type"}'] == 1
    assert found['realtime_connections_opened_total{transport="websocket"}'] == 2

    await alice.disconnect(code=1000)
    await bob.disconnect(code=1000)
    found = await scrape()
    assert found["websocket_connected_clients"] == 0
    assert found["realtime_rooms"] == 0
    assert found["websocket_connection_duration_seconds_count"] == 2
    assert found['realtime_connections_closed_total{code="1000"}'] == 2


async def test_one_call_for_a_batch_not_for_a_member(process: Runtime) -> None:
    """A publication for many members costs the instrument one call."""

    class Calls(PrometheusInstrument):
        calls = 0

        def batch_delivered(self, publications: int, deliveries: int, size: int, lag_seconds: float | None) -> None:
            Calls.calls += 1
            super().batch_delivered(publications, deliveries, size, lag_seconds)

    assert process.node is not None
    instrument = Calls()
    process.node.instrument = process.node.deliverer._instrument = instrument
    clients = [(await connect())[0] for _ in range(20)]
    for client in clients:
        await ask(client, type="join", room="lobby")
    await clients[0].send_to(json.dumps({"type": "room", "room": "lobby", "data": 1}))
    for client in clients[1:]:
        await client.receive_from(5)
    assert (Calls.calls, instrument.deliveries) == (1, 19)
    for client in clients:
        await client.disconnect()


async def test_state_of_the_node_is_read_at_the_scrape(process: Runtime) -> None:
    """Readiness, backplane, nodes and the node's name come from the node as it is now."""
    assert process.node is not None
    found = await scrape()
    assert (found["realtime_node_ready"], found["realtime_backplane_up"], found["realtime_nodes"]) == (1, 1, 1)
    assert found[f'realtime_node_info{{backplane="memory",node="{process.node.id}"}}'] == 1
    process.node.drain()
    assert (await scrape())["realtime_node_ready"] == 0


async def test_what_waits_at_the_backplane_is_read_at_the_scrape(process: Runtime) -> None:
    """The layer measures how far it is behind; the scrape shows it."""
    assert process.node is not None
    process.node.backplane.stats.lag = 7
    assert (await scrape())["realtime_backplane_lag_messages"] == 7


async def test_loop_lag_is_how_long_the_loop_stood(process: Runtime) -> None:
    """A loop that is blocked answers late; from its own thread it cannot be asked."""
    loop = asyncio.get_running_loop()
    assert loop_lag(loop) is None
    asked = asyncio.ensure_future(asyncio.to_thread(loop_lag, loop))
    lag = await asked
    assert lag is not None
    assert 0 <= lag < 1


def test_no_node_is_no_client(settings: Settings) -> None:
    """A process without a node has the metrics too, at zero, and no name."""
    found = samples(Client().get("/metrics").content.decode())
    assert found["websocket_connected_clients"] == found["realtime_node_ready"] == 0
    assert not any(name.startswith("realtime_node_info") for name in found)
    assert "realtime_loop_lag_seconds" not in found


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/health/live", "/health/live/"])
def test_balancers_are_not_redirected(path: str) -> None:
    """With and without a slash the answer is the page itself."""
    assert Client().get(path).status_code == 200


@pytest.mark.parametrize("path", ["/health/ready", "/health/ready/"])
def test_without_a_node_nothing_is_ready(path: str) -> None:
    """503, and the reason; liveness does not depend on it."""
    response = Client().get(path)
    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "state": "no_node",
        "reason": "this process has no node (yet)",
        "node": None,
    }
    assert response["Cache-Control"] == "no-store"
    assert Client().get("/health/live").status_code == 200


async def test_ready_follows_the_node(process: Runtime) -> None:
    """Green while the node hears itself, red with the reason when it drains, and when it has stopped."""
    assert process.node is not None
    response = await AsyncClient().get("/health/ready")
    assert (response.status_code, response.json()["ready"]) == (200, True)
    assert response.json()["node"] == process.node.id

    process.node.drain()
    response = await AsyncClient().get("/health/ready")
    assert (response.status_code, response.json()["state"]) == (503, "draining")
    assert "drains" in response.json()["reason"]

    await process.stop()
    response = await AsyncClient().get("/health/ready")
    assert (response.status_code, response.json()["state"]) == (503, "no_node")


async def test_ready_is_red_while_the_backplane_is_interrupted(process: Runtime) -> None:
    """Whoever cannot publish should get no more clients."""
    assert process.node is not None
    process.node.trust.subscription_lost()
    response = await AsyncClient().get("/health/ready")
    assert (response.status_code, response.json()["state"]) == (503, "interrupted")
    with pytest.raises(BackplaneUnavailable):
        await process.node.publish("rt.all", cast(Any, process.node.heartbeat()))
    assert (await AsyncClient().get("/health/live")).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize(("name", "status"), [("alice", 503), ("charlie", 403), (None, 403)])
def test_details_are_for_staff(name: str | None, status: int, client: Client) -> None:
    """Staff see the figures (503: there is no node here); others get 403 and nothing else."""
    if name:
        client.force_login(User.objects.create_user(name, is_staff=name == "alice"))
    response = client.get("/health/")
    assert response.status_code == status
    assert ("tracking" in response.json()) is (status == 503)


@pytest.mark.django_db(transaction=True)
async def test_details_of_a_running_node(process: Runtime, async_client: AsyncClient) -> None:
    """Connections, rooms, backplane and the other nodes, as they are."""
    admin = await User.objects.acreate(username="root", is_staff=True)
    await async_client.aforce_login(admin)
    client, _ = await connect()
    response = await async_client.get("/health/")
    assert response.status_code == 200
    found = response.json()
    assert (found["connections"], found["rooms"]) == (1, 0)
    assert found["backplane"] == {"name": "memory", "up": True}
    assert found["tracking"] == {"pending": 0, "lost": 0}
    await client.disconnect()


def test_a_probe_that_finds_the_node_not_ready_is_no_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Balancers ask every second; a 503 of any other page is still logged."""
    Client().get("/health/ready")
    assert "Service Unavailable" not in caplog.text
    Client().get("/nowhere/")
    assert "Not Found" in caplog.text
