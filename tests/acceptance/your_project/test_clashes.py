"""Projects that have names of ours, and projects that have more, less or other things installed."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.acceptance.your_project.document import Server, Walk
from tests.acceptance.your_project.projects import Project

SECONDS = 30.0
INSTALL = 'INSTALLED_APPS += ["realtime", "monitoring"]\n'
COMMAND = """
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def handle(self, **options):
        self.stdout.write("theirs")
"""
CROWDED = {
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models
from prometheus_client import Gauge

Gauge("websocket_connected_clients", "Theirs.").set(42)

class Node(models.Model):
    class Meta:
        db_table = "realtime_node"
""",
    "shop/management/commands/cleanup.py": COMMAND,
    "late/__init__.py": "",
    "late/management/commands/stats.py": COMMAND,
    "project/urls.py": """
import os
from django.http import HttpResponse
from django.urls import include, path

def theirs(request):
    return HttpResponse("theirs")

urlpatterns = [
    path("metrics", theirs),
    path("socket.io/", theirs),
    path("internal/" if "APART" in os.environ else "", include("monitoring.urls")),
]
""",
    "project/asgi.py": """
from realtime.routing import realtime_application
from channels.auth import AuthMiddlewareStack
from channels.generic.websocket import WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path, re_path

class Theirs(WebsocketConsumer):
    def connect(self):
        self.accept()
        self.send("theirs")

http = get_asgi_application()
routes = URLRouter([path("ws/", Theirs.as_asgi()), re_path("", Theirs.as_asgi())])
application = realtime_application(ProtocolTypeRouter({"http": http, "websocket": AuthMiddlewareStack(routes)}))
""",
}
CROWDED_SETTINGS = """
INSTALLED_APPS += ["shop", "realtime", "monitoring", "late"]
if "APART" in os.environ:
    REALTIME = {"PATH_PREFIX": "/live", "METRIC_PREFIX": "live_", "TABLE_PREFIX": "live_"}
"""
Make = Callable[..., Project]


@pytest.fixture
def make(installed: Walk, tmp_path: Path) -> Iterator[Make]:
    """Makes a project of settings and files, and ends its nodes."""
    made: list[Project] = []

    def project(more: str, files: dict[str, str] | None = None) -> Project:
        made.append(Project(installed, tmp_path / "theirs", more, files))
        return made[-1]

    yield project
    for each in made:
        each.stop()


def get(server: Server, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=SECONDS) as answer:
        return str(answer.read().decode())


def first_words(server: Server, path: str) -> str:
    """What a WebSocket says first; ours says welcome."""
    with connect(f"ws://127.0.0.1:{server.port}{path}") as client:
        words = str(client.recv(SECONDS))
    return "welcome" if words.startswith('{"type":"welcome"') else words


def nodes_of(project: Project) -> list[Any]:
    """What our command tells of the nodes."""
    nodes: list[Any] = json.loads(project.manage("realtime_stats", "--json", APART="1").stdout)["nodes"]
    return nodes


def test_a_crowded_project(make: Make) -> None:
    """Every name that the project shares with us is found under its number; with prefixes and their own routes both
    sides work, and only the names of commands are still shared."""
    project = make(CROWDED_SETTINGS, CROWDED)
    commands = {"realtime.W051", "realtime.W052"}
    assert project.found() == {
        *commands, "realtime.E053", "realtime.W054", "monitoring.E001", "monitoring.W002",
    }  # fmt: skip
    assert project.found(APART="1") == commands
    assert project.manage("cleanup", APART="1").stdout == "theirs\n"
    server = project.start("/internal/health/ready", APART="1")
    assert "Done in" in project.manage("realtime_cleanup", APART="1").stdout
    server.wait_until(lambda: len(nodes_of(project)) == 1, "in the table of nodes")
    assert [first_words(server, path) for path in ("/ws/", "/live/ws/", "/nowhere/")] == ["theirs", "welcome", "theirs"]
    assert [get(server, path) for path in ("/metrics", "/socket.io/")] == ["theirs", "theirs"]
    assert get(server, "/live/socket.io/?EIO=4&transport=polling").startswith('0{"sid"')
    metrics = get(server, "/internal/metrics")
    assert "\nwebsocket_connected_clients 42.0\n" in metrics
    assert "\nlive_websocket_connected_clients " in metrics
    assert "\nrealtime_" not in metrics
    with sqlite3.connect(project.directory / "db.sqlite3") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert {"realtime_node", "live_node", "live_nodesample", "live_connection"} <= names
    assert [name for name in names if name.startswith("realtime_") and name != "realtime_node"] == []
    assert "check_failed" not in server.log


def test_a_node_tells_of_clashes(make: Make) -> None:
    """A server that was started all the same logs the error; the scrape has their metric, and all of ours but that."""
    models = """
from prometheus_client import Gauge

Gauge("websocket_connected_clients", "Theirs.").set(42)
"""
    project = make(
        'INSTALLED_APPS += ["shop", "realtime", "monitoring"]\n', {"shop/__init__.py": "", "shop/models.py": models}
    )
    server = project.start()
    server.wait_until(lambda: "check_failed id=monitoring.E001" in server.log, "talking")
    metrics = get(server, "/metrics")
    assert metrics.count("\nwebsocket_connected_clients ") == 1
    assert "\nwebsocket_connected_clients 42.0\n" in metrics
    assert "\nrealtime_nodes 1.0\n" in metrics


def test_a_table_that_is_there(make: Make) -> None:
    """`migrate` stops before it touches a database that has a table of ours which no migration made; with a
    prefix it goes on."""
    project = make(f'{INSTALL}REALTIME = {{"TABLE_PREFIX": os.environ.get("TABLES", "realtime_")}}\n')
    with sqlite3.connect(project.directory / "db.sqlite3") as database:
        database.execute("CREATE TABLE realtime_connection (id INTEGER)")
    refused = project.manage("migrate")
    assert refused.returncode == 1
    assert "realtime.E054" in refused.stderr
    assert "TABLE_PREFIX" in refused.stderr
    assert project.found("check", "--database", "default") == {"realtime.E054"}
    assert project.manage("migrate", TABLES="rt_").returncode == 0
    assert project.found("check", "--database", "default", TABLES="rt_") == set()
    assert project.manage("makemigrations", "--check", "--dry-run", TABLES="rt_").returncode == 0


@pytest.mark.parametrize(
    ("more", "files", "number"),
    [
        ('INSTALLED_APPS += ["shop.realtime", "realtime"]\n', {"shop/realtime/__init__.py": ""}, "realtime.E051"),
        ('INSTALLED_APPS += ["realtime", "monitoring", "shop.monitoring.apps.Config"]\n', {
            "shop/monitoring/__init__.py": "",
            "shop/monitoring/apps.py": "from django.apps import AppConfig\n\nclass Config(AppConfig):\n"
            "    name = 'shop.monitoring'\n",
        }, "realtime.E051"),
        (INSTALL, {"monitoring/__init__.py": "", "monitoring/urls.py": "urlpatterns = []\n"}, "realtime.E052"),
        (INSTALL, {"realtime/__init__.py": ""}, "monitoring.E002"),
        ('INSTALLED_APPS += ["monitoring"]\n', {}, "monitoring.E003"),
        (INSTALL + "INSTALLED_APPS.remove('django.contrib.sessions')\n", {}, "realtime.W055"),
        (INSTALL, {"project/urls.py": "urlpatterns = []\n"}, "monitoring.W001"),
        (INSTALL, {"project/asgi.py": "application = print\n"}, "realtime.W053"),
        (INSTALL, {"project/asgi.py": "1 / 0\n"}, "realtime.W053"),
    ],
)  # fmt: skip
def test_what_stands_in_the_way(make: Make, more: str, files: dict[str, str], number: str) -> None:
    """Labels that are taken, packages that hide ours, and what is missing are named by number, with what to do."""
    done = make(more, files).manage("check")
    assert number in done.stderr
    assert "DivisionByZero" not in done.stderr


def test_a_label_that_is_not_taken(make: Make) -> None:
    """An application in a package called as ours is no clash when it has another label."""
    config = "from django.apps import AppConfig\nclass C(AppConfig):\n    name = 'shop.realtime'\n    label = 'mine'\n"
    project = make(
        'INSTALLED_APPS += ["shop.realtime", "realtime", "monitoring"]\n',
        {"shop/realtime/__init__.py": "", "shop/realtime/apps.py": config},
    )
    assert project.found() == set()


def test_with_everything_installed(make: Make) -> None:
    """With channels, django_prometheus, its middleware and URLs, and health_check installed nothing is complained of,
    and one scrape has metrics of all."""
    project = make(
        'INSTALLED_APPS += ["channels", "django_prometheus", "health_check", "realtime", "monitoring"]\n'
        'MIDDLEWARE = ["django_prometheus.middleware.PrometheusBeforeMiddleware", *MIDDLEWARE,'
        ' "django_prometheus.middleware.PrometheusAfterMiddleware"]\n'
        'REALTIME = {"PATH_PREFIX": "/live", "HEALTH_INTERVAL_SECONDS": 0.5, "HEALTH_LATENCY_MAX_MS": 60_000}\n',
        {
            "project/urls.py": "from django.urls import include, path\n"
            'urlpatterns = [path("", include("django_prometheus.urls")), path("", include("monitoring.urls"))]\n'
        },
    )
    assert project.found() == set()
    server = project.start()
    metrics = get(server, "/metrics")
    assert metrics.count("\nwebsocket_connected_clients 0.0\n") == 1
    assert "\ndjango_http_requests_before_middlewares_total" in metrics
    assert first_words(server, "/live/ws/") == "welcome"
    healthy = '\nrealtime_check_healthy{check="responsiveness"} 1.0\n'
    server.wait_until(lambda: healthy in get(server, "/metrics"), "answering its own ping under the prefix", 60)


def test_without_monitoring_and_on_a_layer_of_another_alias(make: Make) -> None:
    """realtime alone is a node, on the layer that REALTIME names; the default layer stays the project's. Its checks
    need no monitoring."""
    project = make(
        'INSTALLED_APPS += ["realtime"]\n'
        'CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}, "nodes": LAYER}\n'
        'REALTIME = {"LAYER": os.environ.get("ALIAS", "nodes")}\n',
        {
            "project/urls.py": "from django.http import HttpResponse\nfrom django.urls import path\n"
            'urlpatterns = [path("", lambda request: HttpResponse("theirs"))]\n'
        },
    )
    assert project.found() == set()
    assert project.found(ALIAS="none") == {"realtime.E002"}
    server = project.start("/")
    server.wait_until(lambda: "node_ready" in server.log, "ready")
    assert "backplane=redis" in server.log
    assert first_words(server, "/ws/") == "welcome"
