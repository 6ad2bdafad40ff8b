"""Fixtures of tests that talk to real nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.client import Client
from tests.support.backends import Backend

Connect = Callable[..., Awaitable[Client]]
StartBackend = Callable[..., Backend]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Connects clients, `await connect(node.url)`, and closes them after the test."""
    clients: list[Client] = []

    async def connected(url: str, **options: Any) -> Client:
        clients.append(await Client.connect(url, **options))
        return clients[-1]

    yield connected
    for client in clients:
        client.connection.close_timeout = 1  # a node that was killed or stopped does not answer
    await asyncio.gather(*(client.close() for client in clients))


@pytest.fixture
def backend() -> Iterator[StartBackend]:
    """Starts servers for a proxy, `backend("one", status=503)`, and ends them after the test."""
    started: list[Backend] = []

    def start(name: str = "one", **options: Any) -> Backend:
        started.append(Backend(name, **options))
        return started[-1]

    yield start
    for each in started:
        each.close()
