"""Our application with four WebSocket routes beside `/ws/`, so that tests reach what lies below our protocol.

- `/echo/plain/` sends every message back through ASGI `send`;
- `/echo/direct/` does it through the direct socket of our consumers (it answers a binary message with its own words);
- `/close/?code=…&reason=…` closes by ASGI `websocket.close` at the first message;
- `/stall/` says how long the loop stood still between two messages.

Run as `daphne tests.acceptance.engine.application:application`.
"""

# ruff: noqa: E402 (Django must be set up before these are imported)
from __future__ import annotations

import asyncio
import json
import os
import time
from typing import Any, cast
from urllib.parse import parse_qs

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import path

from realtime.limits import BacklogLimit
from realtime.routing import realtime_application
from realtime.server import daphne_hooks
from realtime.server.socket import BINARY, Application, Receive, Scope, Send

LIMIT = BacklogLimit(1 << 26, 60.0, 1 << 27)
INBOX_MAX_BYTES = 1 << 18
BINARY_CAME = b"a binary message"


async def echo_plain(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def echo_direct(scope: Scope, receive: Receive, send: Send) -> None:
    client = daphne_hooks.client_socket(scope, send, LIMIT, INBOX_MAX_BYTES)
    assert client is not None
    await receive()
    await client.accept()
    while (message := await client.next()) is not None:
        client.writer.write_text(BINARY_CAME if message is BINARY else message)


async def close(scope: Scope, receive: Receive, send: Send) -> None:
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    await receive()
    await send({"type": "websocket.accept"})
    if query["code"] == ["crash"]:
        raise RuntimeError("the application failed, as it was asked to")
    if (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": "last words"})
        await send({"type": "websocket.close", "code": int(query["code"][0]), "reason": query["reason"][0]})
        await receive()


async def stall(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each message with the longest time since the last one in which a timer of 1 ms was not served: as the
    clock has it, and as the CPU time of the loop's thread, which a busy machine does not prolong."""
    await receive()
    await send({"type": "websocket.accept"})
    worst = {"clock": 0.0, "cpu": 0.0}

    async def watch() -> None:
        clock, cpu = time.monotonic(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            clock, was_clock, cpu, was_cpu = time.monotonic(), clock, time.thread_time(), cpu
            worst["clock"] = max(worst["clock"], clock - was_clock)
            worst["cpu"] = max(worst["cpu"], cpu - was_cpu)

    watching = asyncio.create_task(watch())
    try:
        while (await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": json.dumps(worst)})
            worst["clock"] = worst["cpu"] = 0.0
    finally:
        watching.cancel()


ROUTES = {"echo/plain/": echo_plain, "echo/direct/": echo_direct, "close/": close, "stall/": stall}
router: Any = URLRouter([cast(Any, path(route, cast(Any, consumer))) for route, consumer in ROUTES.items()])
protocols = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": router})
application = realtime_application(cast(Application, protocols))
