"""The application, and at `/held` what its process holds once it has let go of everything that it can.

Resident memory alone would say little: what was freed after a peak stays with the process until it is asked for.
"""

from __future__ import annotations

import _sqlite3
import asyncio
import ctypes
import gc
import json
import sys
from typing import Any

from config.asgi import application as served
from realtime import memory
from realtime.connection import Connection
from realtime.server.daphne_protocol import RealtimeProtocol
from realtime.server.socket import ClientSocket
from realtime.server.writer import FrameWriter

COUNTED = {
    "connections": Connection,
    "sockets": ClientSocket,
    "writers": FrameWriter,
    "protocols": RealtimeProtocol,
}


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http" or scope["path"] != "/held":
        await served(scope, receive, send)
        return
    body = json.dumps(held()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})


def held() -> dict[str, int]:
    """Bytes, tasks, and how many there are of what each client has."""
    memory.collect()
    memory.trim()
    kinds = [type(each) for each in gc.get_objects()]
    counts = {name: sum(issubclass(kind, wanted) for kind in kinds) for name, wanted in COUNTED.items()}
    return {
        "memory": memory.resident_bytes() - sqlite_bytes(),
        "blocks": sys.getallocatedblocks(),
        "tasks": len(asyncio.all_tasks()),
        **counts,
    }


def sqlite_bytes() -> int:
    """What SQLite has: it keeps up to 2 MB of pages for each database connection, and gets them as the tables grow."""
    used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
    used.restype = ctypes.c_int64
    return int(used())
