"""A cluster with three people: alice may do everything, bob may look, charlie must not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster, DaphneNode, run_manage
from tests.support.servers import RedisServer

PASSWORD = "a password for tests"
QUICK = {
    "REALTIME_HEALTH_INTERVAL_SECONDS": "0.3",
    "REALTIME_HEARTBEAT_SECONDS": "0.3",
    "REALTIME_TRACKING_FLUSH_SECONDS": "0.1",
}
PEOPLE = f"""
from django.contrib.auth.models import Permission, User
of_ours = Permission.objects.filter(content_type__app_label__in=("realtime", "monitoring"))
names = ("alice", "bob", "charlie")
alice, bob, charlie = (User.objects.create_user(name, password={PASSWORD!r}, is_staff=True) for name in names)
alice.user_permissions.set(of_ours)
bob.user_permissions.set(of_ours.filter(codename__startswith="view_"))
"""


def add_people(cluster: Cluster) -> None:
    """Write them into the cluster's database."""
    done = run_manage(cluster.environment, "shell", "-v", "0", "-c", PEOPLE)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes for all tests of a file."""
    environment = {**QUICK, "REALTIME_HEALTH_TIMEOUT_SECONDS": "1"}
    with Cluster(redis_server.url, nodes=2, environment=environment) as cluster:
        add_people(cluster)
        yield cluster


@dataclass
class Person:
    """Somebody who is logged in to the admin of a node. Calls wait in a thread."""

    http: httpx.Client

    @property
    def cookie(self) -> dict[str, str]:
        """The header that says who they are."""
        return {"Cookie": "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())}

    async def get(self, path: str) -> httpx.Response:
        return await asyncio.to_thread(self.http.get, f"/admin/{path}")

    async def post(self, path: str, **form: Any) -> httpx.Response:
        data = {"csrfmiddlewaretoken": self.http.cookies["csrftoken"], **form}
        return await asyncio.to_thread(self.http.post, f"/admin/{path}", data=data)


LogIn = Callable[..., Person]


@pytest.fixture
def log_in() -> Iterator[LogIn]:
    """Logs somebody in: `log_in(node, "alice")`."""
    people: list[Person] = []

    def logged_in(node: DaphneNode, name: str) -> Person:
        http = httpx.Client(base_url=node.http_url, timeout=20, trust_env=False)
        people.append(Person(http))
        page = http.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
        assert token is not None
        answer = http.post(
            "/admin/login/", data={"csrfmiddlewaretoken": token[1], "username": name, "password": PASSWORD}
        )
        assert answer.status_code == 302, answer.text
        return people[-1]

    yield logged_in
    for person in people:
        person.http.close()


@pytest.fixture
def alice(module_cluster: Cluster, log_in: LogIn) -> Person:
    return log_in(module_cluster.nodes[0], "alice")


@pytest.fixture
def bob(module_cluster: Cluster, log_in: LogIn) -> Person:
    return log_in(module_cluster.nodes[0], "bob")


@pytest.fixture
def charlie(module_cluster: Cluster, log_in: LogIn) -> Person:
    return log_in(module_cluster.nodes[0], "charlie")
