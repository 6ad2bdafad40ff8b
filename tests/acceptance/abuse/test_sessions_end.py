"""What happens to a session or a user on one node ends their connections on the others. (Attack 2.)"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.abuse.identities import PASSWORD, PRODUCTION, SECRET, Browser, add_people, token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually, metric
from tests.acceptance.socketio.peer import Socket
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

WITHIN_SECONDS = 5.0  # a second is promised; this machine may be busy
TIMES = {"REALTIME_TOKEN_KEYS": SECRET, "REALTIME_HEARTBEAT_SECONDS": "0.5"}


class House:
    """Two nodes, people, and their browsers."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.people = add_people(cluster)
        self.here, self.there = cluster.nodes
        self.browsers: list[Browser] = []

    async def browser(self, name: str) -> Browser:
        """Somebody who has logged in on the other node."""
        self.browsers.append(await asyncio.to_thread(Browser, self.there, name))
        return self.browsers[-1]

    async def shell(self, code: str) -> None:
        """Code in a process without a node."""
        await asyncio.to_thread(self.cluster.manage, "shell", "-v", "0", "-c", code)


@pytest.fixture(scope="module")
def shared_house(redis_server: RedisServer) -> Iterator[House]:
    with Cluster(redis_server.url, nodes=2, environment={**PRODUCTION, **TIMES}) as cluster:
        house = House(cluster)
        yield house
        for browser in house.browsers:
            browser.close()


@pytest.fixture
def house(request: pytest.FixtureRequest, shared_house: House) -> House:
    request.node.stash.setdefault(CLUSTERS, []).append(shared_house.cluster)
    return shared_house


async def all_closed(clients: list[Client], since: float, what: str) -> None:
    """Within the time, with 4001; the figure is printed."""
    for client in clients:
        assert await client.closed(WITHIN_SECONDS) == (4001, "Unauthorized"), what
    print(f"{what}: {len(clients)} closed after {time.monotonic() - since:.3f} s")


async def test_a_logout_on_another_node(house: House, connect: Connect) -> None:
    """Closes the connections of that session here, over WebSocket and Socket.IO, and no others of the same user."""
    await acquainted(house.cluster)
    own, other = await house.browser("ann"), await house.browser("ann")
    here = [await connect(house.here.url, additional_headers=own.headers) for _ in range(3)]
    there = await connect(house.there.url, additional_headers=own.headers)
    stays = await connect(house.here.url, additional_headers=other.headers)
    by_token = await connect(house.here.url)
    await by_token.do("authenticate", token=token(house.people["ann"]))
    assert here[0].welcome["user"] == stays.welcome["user"] == house.people["ann"]
    sio = await Socket.open(f"{house.here.http_url}/socket.io/", additional_headers=own.headers)
    await sio.handshake()
    await sio.send("40{}")
    assert str(await sio.next()).startswith("40")
    before, began = own.headers, time.monotonic()
    await asyncio.to_thread(own.post, "/admin/logout/")
    await all_closed([*here, there], began, "a logout")
    assert await sio.next() == "41"
    assert await stays.is_alive()
    assert await by_token.is_alive()
    assert "cause='logged_out'" in house.here.log
    back = await connect(house.here.url, additional_headers=before)
    assert back.welcome["user"] is None
    for node in house.cluster.nodes:
        assert before["Cookie"].partition("=")[2] not in node.log
    await sio.close()
    assert_no_traceback(house.cluster)


async def test_a_password_that_is_changed_on_another_node(house: House, connect: Connect) -> None:
    """Closes all connections of the user but those of the session that changed it."""
    own, other = await house.browser("ben"), await house.browser("ben")
    stays = await connect(house.here.url, additional_headers=own.headers)
    goes = await connect(house.here.url, additional_headers=other.headers)
    by_token = await connect(house.here.url)
    await by_token.do("authenticate", token=token(house.people["ben"]))
    before, new = own.headers, "another password for tests"
    await asyncio.to_thread(
        own.post, "/admin/password_change/", old_password=PASSWORD, new_password1=new, new_password2=new
    )
    began = time.monotonic()  # to make a hash of a password takes its time
    await all_closed([goes, by_token], began, "a password change, after its response")
    assert own.headers != before
    assert await stays.is_alive()
    again = await connect(house.here.url, additional_headers=own.headers)
    assert again.welcome["user"] == house.people["ben"]
    began = time.monotonic()
    await asyncio.to_thread(own.post, "/admin/logout/")
    await all_closed([stays, again], began, "a logout after that")
    assert_no_traceback(house.cluster)


async def test_a_user_who_is_deactivated_by_a_command(house: House, connect: Connect) -> None:
    """A process without a node tells the nodes before it ends; the user does not come back."""
    browser, cleo = await house.browser("cleo"), house.people["cleo"]
    clients = [await connect(node.url, additional_headers=browser.headers) for node in house.cluster.nodes]
    good = token(cleo)
    clients.append(await connect(house.here.url))
    await clients[-1].do("authenticate", token=good)
    began = time.monotonic()
    change = "u.is_active = False; u.save()"
    await house.shell(f"from django.contrib.auth.models import User; u = User.objects.get(pk={cleo}); {change}")
    print(f"the command took {time.monotonic() - began:.3f} s")
    await all_closed(clients, time.monotonic(), "a deactivation, after the end of its command")
    back = await connect(house.here.url, additional_headers=browser.headers)
    assert back.welcome["user"] is None
    assert (await back.ask("authenticate", token=good))["code"] == "unauthorized"
    assert_no_traceback(house.cluster)


async def test_sessions_that_are_deleted(house: House, connect: Connect) -> None:
    """All of a user's at once, by a command."""
    browsers = [await house.browser("dan") for _ in range(3)]
    clients = [await connect(house.here.url, additional_headers=browser.headers) for browser in browsers]
    keys = [browser.key for browser in browsers]
    code = f"from django.contrib.sessions.models import Session; Session.objects.filter(pk__in={keys!r}).delete()"
    await house.shell(code)
    await all_closed(clients, time.monotonic(), "deleted sessions, after the end of the command")
    assert metric(house.here, "realtime_revocations_failed_total") == 0
    await eventually(lambda: "cause='session_deleted'" in house.here.log, "the log names the cause")
    assert_no_traceback(house.cluster)
