"""Our application with a bad handler behind every WebSocket route beside `/ws/`: it takes memory, or holds up the loop.

The first message says which: `{"bytes": …}` as long as the client stays, or `{"seconds": …}`, again and again until it
goes.
"""

# ruff: noqa: E402 (Django must be set up before these are imported)
from __future__ import annotations

import asyncio
import json
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
    asked = json.loads((await receive())["text"])
    taken = b"x" * asked.get("bytes", 0)
    gone = asyncio.ensure_future(receive())
    while not gone.done():
        time.sleep(asked.get("seconds", 0))
        await asyncio.wait([gone], timeout=0.001 if asked.get("seconds") else None)
    del taken


application = realtime_application(route)
