"""python-socketio with its Redis manager, as its documentation shows it ("Emitting from external processes",
"Uvicorn, Daphne, and other ASGI servers"). Run by uvicorn from benchmarks/.venv; REDIS_URL names the Redis.
"""

import os

import socketio  # type: ignore[import-not-found,unused-ignore]

server = socketio.AsyncServer(async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["REDIS_URL"]))
application = socketio.ASGIApp(server)


@server.event
async def join(sid: str, room: str) -> None:
    await server.enter_room(sid, room)
    await server.emit("joined", room, to=sid)


@server.event
async def room(sid: str, room: str, data: str) -> None:
    await server.emit("room", {"room": room, "from": sid, "data": data}, room=room, skip_sid=sid)


@server.event
async def private(sid: str, to: str, data: str) -> None:
    await server.emit("private", {"from": sid, "data": data}, to=to)
