"""`manage.py publish`, from a process that serves nobody."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from channels.testing import WebsocketCommunicator
from django.core.management import CommandError, call_command
from pytest_django import Settings

from devtools.ports import free_port
from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.routing import realtime_application
from realtime.runtime import runtime
from tests.support.servers import RedisServer

ROOT = Path(__file__).resolve().parents[2]


def publish(*arguments: str, backplane: str, prefix: str = "asgi") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BACKPLANE_URL": backplane, "BACKPLANE_PREFIX": prefix}
    command = [sys.executable, "manage.py", "publish", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30)


@pytest.fixture
async def prefix(redis_server: RedisServer, settings: Settings) -> AsyncIterator[str]:
    """This process serves clients, on Redis under a prefix of its own."""
    prefix = f"t{secrets.token_hex(4)}"
    backend = "realtime.layers.redis.RedisChannelLayer"
    config = {"hosts": [redis_server.url], "prefix": prefix}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": backend, "CONFIG": config}}
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "TRACKING_IS_ON": False}
    process = runtime()
    process.reload_settings()
    await process.start()
    yield prefix
    await process.stop()
    process.reload_settings()


async def no_route(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


application = realtime_application(no_route)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["room", "lobby"], {"type": "room", "room": "lobby"}),
        (["broadcast"], {"type": "broadcast"}),
        (["private", "user:7"], {"type": "private"}),
        (["private", "ID"], {"type": "private"}),
    ],
)
async def test_a_client_of_another_process_gets_it(
    redis_server: RedisServer, prefix: str, arguments: list[str], expected: dict[str, str]
) -> None:
    """A room's member, anybody, a user and one connection get the data as it was given, from nobody."""
    client = WebsocketCommunicator(cast(Any, application), "/ws/")
    assert (await client.connect())[0]
    welcome = json.loads(await client.receive_from(5))
    for said in ({"type": "authenticate", "token": issue_token(7)}, {"type": "join", "room": "lobby"}):
        await client.send_to(json.dumps(said))
        await client.receive_from(5)

    words = [welcome["id"] if word == "ID" else word for word in arguments]
    command = functools.partial(publish, *words, '{"text": "hé"}', backplane=redis_server.url, prefix=prefix)
    done = await asyncio.to_thread(command)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(await client.receive_from(5)) == {**expected, "from": None, "data": {"text": "hé"}}
    await client.disconnect()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("room", "lobby", "{bad"), "is not JSON"),
        (("broadcast", "hello"), "quotes of its own"),
        (("room", "x" * 65, "1"), "bad_room"),
        (("private", "nobody", "1"), "unknown_recipient"),
        (("room", "lobby", "1e999"), "JSON"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments: tuple[str, ...], complaint: str) -> None:
    """What is wrong is said, before anything is published."""
    with pytest.raises(CommandError, match=complaint) as caught:
        call_command("publish", *arguments)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)


def test_no_backplane_is_unavailable_and_exit_code_1() -> None:
    """With nobody at BACKPLANE_URL the command says so within seconds."""
    done = publish("broadcast", "1", backplane=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("CommandError: unavailable:")
    assert "Traceback" not in done.stderr
