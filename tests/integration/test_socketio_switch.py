"""`/socket.io/` belongs to us, or with SOCKETIO_IS_ON off to the project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from channels.testing import HttpCommunicator
from pytest_django import Settings

from realtime.conf import DEVELOPMENT
from realtime.routing import realtime_application
from realtime.runtime import Runtime, runtime

BY_PROJECT = b"the project's own"


async def project(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": BY_PROJECT})


@pytest.fixture
def process(settings: Settings) -> Iterator[Runtime]:
    """This process, whose settings are read anew."""
    process = runtime()
    process.reload_settings()
    yield process
    process.reload_settings()


async def ask(path: str) -> tuple[int, bytes]:
    application = cast(Any, realtime_application(project))
    response = await HttpCommunicator(application, "GET", path).get_response()
    return response["status"], response["body"]


async def test_socketio_can_be_turned_off(process: Runtime, settings: Settings) -> None:
    """Then the path is like any other."""
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "SOCKETIO_IS_ON": False}
    assert await ask("/socket.io/?EIO=4&transport=polling") == (200, BY_PROJECT)


async def test_socketio_is_on(process: Runtime, settings: Settings) -> None:
    """And takes its own path alone; without a running node it asks to come back later."""
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT}
    status, body = await ask("/socket.io/?EIO=4&transport=polling")
    assert (status, body) == (503, b'{"code":3,"message":"Try again later"}')
    assert await ask("/socket.io/other") == (200, BY_PROJECT)
