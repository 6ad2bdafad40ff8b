"""Fixtures of tests that talk to real nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.acceptance.client import Client

Connect = Callable[..., Awaitable[Client]]


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
