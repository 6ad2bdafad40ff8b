"""Our application in a project whose own code is slow, stuck or harmful, as nobody's should be.

- event `stuck` waits until some client says `go on`;
- a receiver of the signal `message_received` takes long for each message that says `slow`;
- event `block` stops the loop for so many seconds, `keep` keeps 4 MiB for ever, `lose` forgets a member of
  a room, and `fail` raises: they are what the oracle has to notice.

Run as `daphne tests.acceptance.abuse.application:application`.
"""

# ruff: noqa: E402 (Django must be set up before these are imported)
from __future__ import annotations

import asyncio
import os
import time
from typing import Any, cast

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from django.core.asgi import get_asgi_application
from django.dispatch import receiver

from realtime.routing import realtime_application
from realtime.runtime import require_node
from realtime.server.socket import Application
from realtime.signals import message_received
from realtime.socketio import Client, on

LOST_SECONDS = 0.3
KEPT_BYTES = 4 * 1024 * 1024
RECEIVER_SECONDS = 0.03
go_on_at: asyncio.Event | None = None
kept: list[bytes] = []


def _go_on() -> asyncio.Event:
    global go_on_at
    if go_on_at is None:
        go_on_at = asyncio.Event()
    return go_on_at


@on("stuck")
async def stuck(client: Client) -> None:
    event = _go_on()
    event.clear()
    await event.wait()


@on("go on")
async def go_on(client: Client) -> None:
    _go_on().set()


@on("block")
async def block(client: Client, seconds: float) -> None:
    time.sleep(seconds)


@on("keep")
async def keep(client: Client) -> None:
    kept.append(os.urandom(KEPT_BYTES))


@on("fail")
async def fail(client: Client) -> None:
    raise RuntimeError("the handler failed, as it was asked to")


@on("lose")
async def lose(client: Client, room: str) -> None:
    """One member of a room hears nothing for a moment, for no reason."""
    writers = require_node().hub.rooms[room].writers
    name, writer = writers.popitem()
    asyncio.get_running_loop().call_later(LOST_SECONDS, writers.__setitem__, name, writer)


@receiver(message_received)
def take_long(data: Any, **arguments: Any) -> None:
    if data == "slow":
        time.sleep(RECEIVER_SECONDS)


application = realtime_application(cast(Application, get_asgi_application()))
