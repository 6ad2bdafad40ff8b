"""The clients of a soak. They send without waiting, and hold every answer against the ledger."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import random
import socket
from dataclasses import dataclass
from typing import Any, Self

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from tests.acceptance.engine.peer import FrameParser, close, command
from tests.acceptance.soak.ledger import (
    EVERYBODY,
    BadDelivery,
    Ledger,
    Stay,
    Stream,
    private_audience,
    room_audience,
)

CONNECT_SECONDS = 30.0  # a frozen node accepts when it wakes
REFUSALS = {
    "join": {"unavailable"},
    "leave": {"not_joined"},
    "room": {"unavailable", "not_joined"},
    "broadcast": {"unavailable"},
    "private": {"unavailable", "unknown_recipient"},
}
"""What a command may be refused with, whatever happens to nodes and Redis."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command without an answer yet."""

    type: str
    room: str = ""
    stream: Stream | None = None
    number: int = 0


class Talker:
    """A client that reads all the time. What it got wrong is raised by ``judge``."""

    def __init__(self, connection: ClientConnection, ledger: Ledger, welcome: dict[str, Any]) -> None:
        self.connection = connection
        self.id: str = welcome["id"]
        self.node: str = welcome["node"]
        self.ledger = ledger
        self.is_leaving = False  # it was told to close or to abort
        self.is_unwanted = False  # an operator ends it
        self.missed = 0  # notices since the last look
        self.asked: dict[int, Asked] = {}
        self.stays: dict[str, Stay] = {}  # by audience
        self.rooms: set[str] = set()
        self._refs = itertools.count(1)
        self._wrong: list[Exception] = []
        for audience in (EVERYBODY, private_audience(self.id)):
            self.stays[audience] = Stay(ledger, audience, self.id)
        self.reader = asyncio.create_task(self._read(), name="talker")

    @classmethod
    async def connect(cls, url: str, ledger: Ledger) -> Self:
        options: dict[str, Any] = {"proxy": None, "compression": None, "ping_interval": None, "max_queue": 256}
        connection = await open_websocket(url, open_timeout=CONNECT_SECONDS, close_timeout=5, **options)
        async with asyncio.timeout(CONNECT_SECONDS):
            return cls(connection, ledger, json.loads(await connection.recv()))

    @property
    def is_open(self) -> bool:
        return not self.reader.done() and not self.is_leaving

    @property
    def close_code(self) -> int | None:
        return self.connection.close_code

    # What it sends

    async def join(self, room: str) -> None:
        if room not in self.rooms and not self._is_asking_about(room):
            await self._ask(Asked("join", room), room=room)

    async def leave(self, pick: float) -> None:
        rooms = sorted(room for room in self.rooms if not self._is_asking_about(room))
        if rooms:
            room = rooms[int(pick * len(rooms))]
            self.stays.pop(room_audience(room)).judge(is_over=True)
            await self._ask(Asked("leave", room), room=room)

    async def talk(self, pick: float, count: int) -> None:
        rooms = sorted(self.rooms)
        if rooms:
            room = rooms[int(pick * len(rooms))]
            for _ in range(count):
                await self._say("room", room_audience(room), room=room)

    async def broadcast(self) -> None:
        await self._say("broadcast", EVERYBODY)

    async def whisper(self, to: str) -> None:
        await self._say("private", private_audience(to), to=to)

    async def close(self) -> None:
        self.is_leaving = True
        await self.connection.close()

    def abort(self) -> None:
        self.is_leaving = True
        self.connection.transport.abort()

    async def _say(self, type: str, audience: str, **fields: Any) -> None:
        stream = self.ledger.stream(audience, self.id)
        number, stream.sent = stream.sent, stream.sent + 1
        await self._ask(Asked(type, stream=stream, number=number), data=number, **fields)

    async def _ask(self, asked: Asked, **fields: Any) -> None:
        ref = next(self._refs)
        self.asked[ref] = asked
        with contextlib.suppress(ConnectionClosed):
            await self.connection.send(json.dumps({"type": asked.type, "ref": ref, **fields}))

    def _is_asking_about(self, room: str) -> bool:
        return any(each.room == room for each in self.asked.values())

    # What it gets

    async def _read(self) -> None:
        try:
            while True:
                self._take(json.loads(await self.connection.recv()))
        except ConnectionClosed:
            pass
        except Exception as error:
            self._wrong.append(error)
            self.connection.transport.abort()

    def _take(self, message: dict[str, Any]) -> None:
        match message:
            case {"type": "room", "room": room, "from": sender, "data": number}:
                self._came(room_audience(room), sender, number)
            case {"type": "broadcast", "from": sender, "data": number}:
                self._came(EVERYBODY, sender, number)
            case {"type": "private", "from": sender, "data": number}:
                self._came(private_audience(self.id), sender, number)
            case {"type": "missed", "rooms": rooms}:
                self._told(rooms)
            case {"ref": ref}:
                self._answered(self.asked.pop(ref), message)
            case _:
                raise BadDelivery(f"{self.id} got {message}")

    def _came(self, audience: str, sender: str, number: int) -> None:
        stay = self.stays.get(audience)
        if stay is not None:
            stay.came(sender, number)
        elif not any(room_audience(asked.room) == audience for asked in self.asked.values()):
            raise BadDelivery(f"{self.id} got {number} in {audience}, which it has left")

    def _told(self, rooms: list[str] | None) -> None:
        self.missed += 1
        audiences = self.stays if rooms is None else map(room_audience, rooms)
        for audience in audiences:
            if audience in self.stays:
                self.stays[audience].was_told = True

    def _answered(self, asked: Asked, reply: dict[str, Any]) -> None:
        match reply["type"]:
            case "error":
                if reply["code"] not in REFUSALS[asked.type]:
                    raise BadDelivery(f"{self.id}: {asked.type} was answered with {reply}")
                if asked.type == "leave":
                    self.rooms.discard(asked.room)
            case "joined":
                self.rooms.add(asked.room)
                audience = room_audience(asked.room)
                self.stays[audience] = Stay(self.ledger, audience, self.id)
            case "left":
                self.rooms.discard(asked.room)
            case "ack":
                assert asked.stream is not None
                asked.stream.acked.add(asked.number)
                self.ledger.acked += 1

    def raise_wrong(self) -> None:
        """Raises the first thing that it should not have got."""
        if self._wrong:
            raise self._wrong[0]

    def judge(self, *, is_over: bool) -> None:
        """Everything up to here: raises what was wrong."""
        self.raise_wrong()
        for stay in self.stays.values():
            stay.judge(is_over=is_over)

    @property
    def is_complete(self) -> bool:
        """Whether each command is answered, and everything has come that must (or the loss was told)."""
        return not self.asked and all(stay.was_told or not stay.missing(is_over=False) for stay in self.stays.values())


class PasserBy:
    """A client that joins one room, and reads nothing beyond its `welcome` unless it is told to. Cheap."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.id = ""
        self.node = ""
        self.ways_out: set[int] = set()  # the close codes that its row may have
        self._reader = reader
        self._writer = writer
        self._parser = FrameParser()

    @classmethod
    async def connect(cls, port: int, *rooms: str, receive_buffer: int = 0) -> Self:
        plain = socket.socket()
        plain.setblocking(False)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", port))
        except BaseException:
            plain.close()
            raise
        reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
        client = cls(reader, writer)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await client._shake_hands(port)
        except BaseException:
            client._cut()
            raise
        writer.write(b"".join(command("join", room=room) for room in rooms))
        return client

    async def _shake_hands(self, port: int) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._writer.write(
            f"GET /ws/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.partition(b"\r\n")[0]:
            raise ConnectionRefusedError(head)
        welcome = await self._next_frame()
        self.id, self.node = welcome["id"], welcome["node"]

    async def _next_frame(self) -> Any:
        while not self._parser.frames:
            data = await self._reader.read(4096)
            if not data:
                raise ConnectionResetError("the connection ended before its welcome")
            self._parser.feed(data)
        return json.loads(bytes(self._parser.frames.popleft().data))

    def say(self, **fields: Any) -> None:
        with contextlib.suppress(ConnectionError):
            self._writer.write(command(**fields))

    async def leave(self, rng: random.Random) -> None:
        """In one of three ways: without a word; closed, and gone at once; closed, with the answer waited for."""
        way = rng.randrange(3)
        if way == 0:
            self.ways_out = {1006}
            self._cut()
            return
        self.ways_out = {1000, 1006}  # what is unread here makes a reset of our end, which may overtake the close
        self._writer.write(close())
        if way == 2:
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    while await self._reader.read(4096):
                        pass
        self._writer.close()

    def _cut(self) -> None:
        """What is unread makes it a reset."""
        self._writer.transport.abort()
        self._writer.close()

    async def read_for(self, count: int) -> None:
        """Some of what waits, and then no more."""
        with contextlib.suppress(ConnectionError, TimeoutError):
            async with asyncio.timeout(0.5):
                for _ in range(count):
                    self._parser.feed(await self._reader.read(4096))
                    self._parser.frames.clear()
