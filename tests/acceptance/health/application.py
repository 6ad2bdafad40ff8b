"""Our application with one WebSocket route beside `/ws/`: `/block/` holds up the loop, as a bad handler would.

A message says for how many seconds, again and again until the client goes.
"""

# ruff: noqa: E402 (Django must be set up before these are imported)
from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from django.core.asgi import get_asgi_application

from realtime.routing import realtime_application

http = get_asgi_application()


async def route(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await http(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    message = await receive()
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        time.sleep(float(message["text"]))
        await asyncio.sleep(0.001)


application = realtime_application(route)
