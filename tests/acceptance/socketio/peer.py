"""Clients that speak the bytes of Engine.IO and Socket.IO, over httpx and websockets. They know nothing of our code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

DEADLINE_SECONDS = 10.0


class Polling:
    """A session over HTTP. ``await Polling.open(url)``, where ``url`` ends with the path."""

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self.url = url
        self.http = http
        self.handshake: dict[str, Any] = {}
        self.connected: dict[str, Any] = {}
        self.connection: asyncio.StreamWriter  # of the last poll that was begun

    @classmethod
    async def open(cls, url: str, **options: Any) -> Self:
        limits = httpx.Limits(max_keepalive_connections=0)
        polling = cls(url, httpx.AsyncClient(timeout=DEADLINE_SECONDS, limits=limits, **options))
        response = await polling.http.get(url, params={"EIO": "4", "transport": "polling"})
        assert response.status_code == 200, response.text
        assert response.text.startswith("0"), response.text
        polling.handshake = json.loads(response.text[1:])
        return polling

    @property
    def sid(self) -> str:
        return str(self.handshake["sid"])

    @property
    def query(self) -> dict[str, str]:
        return {"EIO": "4", "transport": "polling", "sid": self.sid}

    async def poll(self, url: str = "") -> httpx.Response:
        return await self.http.get(url or self.url, params=self.query)

    async def begin_poll(self) -> asyncio.Task[tuple[int, str]]:
        """Send a poll; on return the node has it. The task gives the status and the body of its answer."""
        address = urlsplit(self.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        self.connection = writer
        head = f"GET {address.path}?{urlencode(self.query)} HTTP/1.1\r\nHost: {address.netloc}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        await writer.drain()
        # A node reads what came first first: it has the poll when it has answered another request that came later.
        (await self.http.get(self.url, params={"EIO": "4", "transport": "polling"})).raise_for_status()

        async def answer() -> tuple[int, str]:
            async with asyncio.timeout(DEADLINE_SECONDS):
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            return int(head.split()[1]), body.decode()

        return asyncio.create_task(answer())

    async def quiet(self) -> Self:
        """Take a ping and leave it unanswered: nothing comes by itself until the server loses patience."""
        assert await self.said() == "2"
        return self

    async def post(self, body: str | bytes, url: str = "") -> httpx.Response:
        return await self.http.post(url or self.url, params=self.query, content=body)

    async def said(self) -> str:
        """What the server has to say next."""
        response = await self.poll()
        assert response.status_code == 200, (response.status_code, response.text)
        return response.text

    async def say(self, body: str | bytes) -> None:
        response = await self.post(body)
        assert (response.status_code, response.text) == (200, "ok")

    async def join_namespace(self, auth: str = "") -> Self:
        """Connect to `/`."""
        await self.say(f"40{auth}")
        answer = await self.said()
        assert answer.startswith("40"), answer
        self.connected = json.loads(answer.partition("\x1e")[0][2:])
        return self

    async def close(self) -> None:
        """End the session, unless it has ended: it would go on being counted until its node loses patience."""
        with contextlib.suppress(httpx.HTTPError):
            await self.post("1")
        await self.http.aclose()


class Socket:
    """A session over a WebSocket, or the upgrade of one."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self.pings = 0
        self.is_answering = True

    @classmethod
    async def open(cls, url: str, sid: str | None = None, **options: Any) -> Self:
        query = "?EIO=4&transport=websocket" + ("" if sid is None else f"&sid={sid}")
        settings = {"proxy": None, "compression": None, "max_size": None, "ping_interval": None, **options}
        address = url.replace("http", "ws", 1) + query
        return cls(await connect(address, open_timeout=DEADLINE_SECONDS, close_timeout=1, **settings))

    async def send(self, message: str | bytes) -> None:
        await self.websocket.send(message)

    async def packet(self) -> str | bytes:
        """The next message, whatever it is."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self.websocket.recv()

    async def next(self) -> str | bytes:
        """The next message that is no ping; pings are answered."""
        while (packet := await self.packet()) == "2":
            self.pings += 1
            if self.is_answering:
                await self.send("3")
        return packet

    async def handshake(self) -> dict[str, Any]:
        packet = await self.next()
        assert isinstance(packet, str)
        assert packet.startswith("0")
        handshake: dict[str, Any] = json.loads(packet[1:])
        return handshake

    async def ended(self) -> int:
        """Wait until the server has closed it; its close code."""
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                while True:
                    await self.websocket.recv()
        except ConnectionClosed:
            return self.websocket.close_code or 0

    async def close(self) -> None:
        await self.websocket.close()


class Refused(Exception):
    """The server did not let the client into the namespace."""


class Talker:
    """A Socket.IO client in one namespace over a WebSocket. It reads all the time and keeps every event, in order."""

    def __init__(self, socket: Socket, namespace: str) -> None:
        self.socket = socket
        self.namespace = namespace
        self.id = ""
        self.session = ""
        self.events: list[tuple[str, list[Any]]] = []
        self.waiting: list[tuple[str, list[Any]]] = []
        self.is_disconnected = False
        self._acks: dict[int, list[Any]] = {}
        self._last_ack = 0
        self._something = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, url: str, *, namespace: str = "/", auth: Any = None, **options: Any) -> Self:
        talker = cls(await Socket.open(url, **options), namespace)
        talker.session = (await talker.socket.handshake())["sid"]
        where = "" if namespace == "/" else f"{namespace},"
        await talker.socket.send(f"40{where}{json.dumps({'silent': True} if auth is None else auth)}")
        answer = await talker.socket.next()
        assert isinstance(answer, str)
        kind, _, body = answer.partition(where) if where else (answer[:2], "", answer[2:])
        if kind != "40":
            await talker.socket.close()
            raise Refused(answer)
        talker.id = json.loads(body)["sid"]
        talker._reader = asyncio.create_task(talker._read(), name="talker")
        return talker

    async def emit(self, event: str, *arguments: Any, ack: int | None = None) -> None:
        attachments: list[bytes] = []
        body = json.dumps([event, *(_placed(each, attachments) for each in arguments)])
        head = f"45{len(attachments)}-" if attachments else "42"
        where = "" if self.namespace == "/" else f"{self.namespace},"
        await self.socket.send(f"{head}{where}{'' if ack is None else ack}{body}")
        for each in attachments:
            await self.socket.send(each)

    async def ask(self, event: str, *arguments: Any) -> Any:
        """Emit, and wait for the acknowledgement: its one argument."""
        self._last_ack = number = self._last_ack + 1
        await self.emit(event, *arguments, ack=number)
        await self._until(lambda: number in self._acks, f"an acknowledgement of {event}")
        answer = self._acks.pop(number)
        return answer[0] if len(answer) == 1 else answer

    async def do(self, event: str, *arguments: Any) -> Any:
        """The same for what must succeed."""
        answer = await self.ask(event, *arguments)
        assert answer["ok"] is True, answer
        return answer

    async def expect(self, event: str) -> list[Any]:
        """Take the oldest waiting event of this name; wait for it if there is none yet."""

        def found() -> bool:
            return any(name == event for name, _ in self.waiting)

        await self._until(found, event)
        index = next(index for index, (name, _) in enumerate(self.waiting) if name == event)
        return self.waiting.pop(index)[1]

    async def next_event(self) -> tuple[str, list[Any]]:
        """Take the oldest waiting event, whatever its name; wait for it if there is none."""
        await self._until(lambda: bool(self.waiting), "an event")
        return self.waiting.pop(0)

    async def expect_disconnect(self) -> None:
        await self._until(lambda: self.is_disconnected, "a disconnect packet")

    async def collect(self, event: str, count: int) -> list[list[Any]]:
        """Wait for so many events of this name since the beginning; all of them."""
        await self._until(lambda: sum(name == event for name, _ in self.events) >= count, f"{count} of {event}")
        return [arguments for name, arguments in self.events if name == event]

    async def ended(self) -> int:
        """Wait until the server has closed the WebSocket; its close code."""
        assert self._reader is not None
        done, _ = await asyncio.wait([self._reader], timeout=DEADLINE_SECONDS)
        assert done, "the server did not close"
        return self.socket.websocket.close_code or 0

    async def close(self) -> None:
        await self.socket.close()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds():
                assert self._reader is not None
                assert not self._reader.done(), f"{what}: the connection has ended; {self.events[-5:]}"
                self._something.clear()
                await self._something.wait()

    async def _read(self) -> None:
        where = "" if self.namespace == "/" else f"{self.namespace},"
        try:
            while True:
                packet = await self.socket.websocket.recv()
                assert isinstance(packet, str), packet
                if packet == "2":
                    await self.socket.send("3")
                    continue
                kind, rest = packet[1], packet[2:]
                count, attachments = 0, []
                if kind in "56":
                    number, _, rest = rest.partition("-")
                    count = int(number)
                if count:
                    attachments = [await self.socket.websocket.recv() for _ in range(count)]
                assert rest.startswith(where), packet
                self._take(kind, rest[len(where) :], attachments)
                self._something.set()
        except ConnectionClosed:
            pass
        finally:
            self._something.set()

    def _take(self, kind: str, rest: str, attachments: list[Any]) -> None:
        if kind == "1":
            self.is_disconnected = True
            return
        start = rest.index("[")
        arguments = _filled(json.loads(rest[start:]), attachments)
        if kind in "25":
            self.events.append((arguments[0], arguments[1:]))
            self.waiting.append((arguments[0], arguments[1:]))
        else:
            self._acks[int(rest[:start])] = arguments


def _placed(value: Any, attachments: list[bytes]) -> Any:
    if isinstance(value, bytes):
        attachments.append(value)
        return {"_placeholder": True, "num": len(attachments) - 1}
    if isinstance(value, dict):
        return {key: _placed(each, attachments) for key, each in value.items()}
    return [_placed(each, attachments) for each in value] if isinstance(value, list) else value


def _filled(value: Any, attachments: list[Any]) -> Any:
    if isinstance(value, dict):
        if value.get("_placeholder") is True:
            return attachments[value["num"]]
        return {key: _filled(each, attachments) for key, each in value.items()}
    return [_filled(each, attachments) for each in value] if isinstance(value, list) else value
